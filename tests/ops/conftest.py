"""The backends under test: a test that takes ``target`` runs on each of `targets.names`.

The cpu backend has to be built: without it these tests fail, they do not skip.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest
import targets
import torch
from targets import Target

from emokernel import _build_info
from emokernel.ops import cpu


@pytest.fixture(scope="session", params=targets.names())
def _target(request: pytest.FixtureRequest) -> Target:
    return targets.target(request.param)


@pytest.fixture
def target(_target: Target) -> Iterator[Target]:
    """One backend; what the test makes lies on its device unless it says otherwise."""
    with torch.device(_target.device):
        yield _target


@pytest.fixture
def use_isa() -> Iterator[Callable[[str], None]]:
    """``use_isa(level)``: run the kernels of that level until the test ends."""
    choose = ctypes.CDLL(str(cpu.LIBRARY)).emokernel_use_cpu_isa
    choose.restype = ctypes.c_bool

    def use(level: str) -> None:
        assert choose(level.encode()), f"{level} cannot run here"

    yield use
    use(_build_info.choose_isa())
