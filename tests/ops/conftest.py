"""The cpu backend, which has to be built: without it these tests fail, they do not skip."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest

from emokernel import _build_info
from emokernel.ops import cpu


@pytest.fixture(scope="session", autouse=True)
def _cpu_backend_runs() -> None:
    assert cpu.BACKEND.unavailable() is None, cpu.BACKEND.unavailable()


@pytest.fixture
def use_isa() -> Iterator[Callable[[str], None]]:
    """``use_isa(level)``: run the kernels of that level until the test ends."""
    choose = ctypes.CDLL(str(cpu.LIBRARY)).emokernel_use_cpu_isa
    choose.restype = ctypes.c_bool

    def use(level: str) -> None:
        assert choose(level.encode()), f"{level} cannot run here"

    yield use
    use(_build_info.choose_isa())
