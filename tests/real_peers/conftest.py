"""Tests of files and figures against the real programs, each in its own environment.

`make test-peers` says where these are: EMOKERNEL_PEERS, a folder with one for each program. Without
it nothing here is collected; a program that has none there is skipped, by name.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from emokernel import EmotionVectors
from emokernel.demo.models import load, load_vectors
from emokernel.weights import fetched

if "EMOKERNEL_PEERS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

PROGRAMS = Path(__file__).parent / "programs"
DRIVERS = Path(__file__).parents[2] / "benchmarks" / "peers"
TEXTS = (
    "I opened the letter from my sister and", "The meeting on Monday was moved to the",
    "When the storm was over, the old man", "My neighbour told me last night that she",
    "Nobody in the village had ever seen a", "After the long journey we finally reached",
)  # fmt: skip


def _python(environment: str) -> Path:
    python = Path(os.environ["EMOKERNEL_PEERS"], environment, "bin", "python").absolute()
    if not python.is_file():
        pytest.skip(f"THERE IS NO ENVIRONMENT OF {environment}: {python}")
    return python


@pytest.fixture(scope="session")
def peer(tmp_path_factory):
    """``peer(name, request)``: what ``programs/run_<name>.py`` answers in that peer's environment.

    Another ``environment`` where one program runs in several. "arrays" of the answer are those that
    it saved in the request's "output", "said" is what it wrote to stderr.
    """

    def run(name: str, request: dict, environment: str | None = None) -> dict:
        environment = environment or name
        python = _python(environment)
        output = tmp_path_factory.mktemp(name) / "arrays.npz"
        program = PROGRAMS / f"run_{name.replace('-', '_')}.py"
        done = subprocess.run(
            [python, program], text=True, capture_output=True,
            input=json.dumps({**request, "output": str(output), "environment": environment}),
            env={**os.environ, "PYTHONPATH": str(DRIVERS)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        answer = json.loads(done.stdout.splitlines()[-1])
        if "lacks" in answer:
            pytest.skip(f"THE ENVIRONMENT OF {environment} LACKS A PACKAGE: {answer['lacks']}")
        arrays = dict(np.load(output)) if output.exists() else {}
        return {**answer, "arrays": arrays, "said": done.stderr}

    return run


@pytest.fixture(scope="session")
def driver():
    """``driver(name, environment, requests)``: the answers of a driver of benchmarks/peers."""

    def run(name: str, environment: str, requests: list[dict]) -> list[dict]:
        asked = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run(
            [_python(environment), "worker.py", name], input=asked, text=True, cwd=DRIVERS,
            capture_output=True, check=True,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="session")
def folder():
    return fetched("smollm2")


@pytest.fixture(scope="session")
def model():
    """smollm2 in float32, which every test has to leave as it was."""
    return load("smollm2")[0]


@pytest.fixture(scope="session")
def prompts(folder):
    """Token ids ``[6][7]``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text).input_ids[:7] for text in TEXTS]


@pytest.fixture(scope="session")
def shipped():
    """Joy and sadness as they ship, as plain numbers, at layers 8 to 15 (of which even ones)."""
    vectors = load_vectors("smollm2")
    plain = {name: vectors[name] for name in ("joy", "sadness")}
    return EmotionVectors.from_tensors(plain).at_layers(range(8, 16))


@pytest.fixture(scope="session")
def dense():
    """A random vector of length 4 in every layer, and another of its kind."""
    random = torch.randn(2, 30, 576, generator=torch.Generator().manual_seed(0))
    random = 4 * random / random.norm(dim=-1, keepdim=True)
    return EmotionVectors.from_tensors({"one": random[0], "other": random[1]})
