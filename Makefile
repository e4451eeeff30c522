PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(shell find csrc -type f)

.PHONY: demo test lint bench clean

demo: $(VENV)/built
	$(BIN)/emokernel demo

test: $(VENV)/built
	$(BIN)/python -m pytest
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/ops -k interpreted

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/built
	$(BIN)/python -m pytest benchmarks --benchmark-only

$(VENV)/ready: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

$(VENV)/built: $(VENV)/ready $(SOURCES)
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
	find . -name '*.so' -not -path './$(VENV)/*' -delete
