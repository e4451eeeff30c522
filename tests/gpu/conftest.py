"""Tests that need a GPU; the contracts of the operations run on it in tests/ops as well."""

from __future__ import annotations

import pytest
import targets
import torch
from targets import Target

GPU_TARGETS = ("cuda", "triton")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="there is no GPU: what the kernels do on one is NOT tested")
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(skip)


@pytest.fixture(scope="session", params=GPU_TARGETS)
def gpu(request: pytest.FixtureRequest) -> Target:
    """One of the GPU backends, and its device."""
    return targets.target(request.param)
