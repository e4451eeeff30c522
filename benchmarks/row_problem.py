"""A row operation of the cpu backend at one shape, a copy of its bytes, and how calls are timed.

What `ops.py`, `ops_in_place.py` and `ops_shapes.py` have in common. No model, so no transformers.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from emokernel import _build_info
from emokernel.ops import cpu
from emokernel.reference import Cast, Law

RESULTS = Path(__file__).parent / "results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOTS, VECTORS, EPS = 256, 32, 1e-6
# Tensors ``[rows, d]`` that a call reads and writes. In place, what a norm left is written only.
FORMS = {
    "add_steer_rms_norm_out": 4,
    "add_steer_layer_norm_out": 4,
    "steer_rms_norm_": 3,
    "add_steer": 3,
}
RMS_NORM, LAYER_NORM, IN_PLACE, ADD = FORMS
PAGE = 4096  # bytes: tensors begin on one of their own, as large ones do everywhere
_BLOCK = 1 << 20  # random numbers, which repeat
Call = Callable[[], object]


class Pool:
    """Random memory to read and to write, for any `Problem` of up to ``elements`` a tensor.

    Shapes that are measured one after the other find their memory made, random and touched.
    """

    def __init__(self, dtype: torch.dtype, elements: int) -> None:
        size = 2 * _whole_pages(elements, dtype)
        block = torch.randn(min(size, _BLOCK), generator=torch.Generator().manual_seed(0))
        self.source = block.to(dtype).repeat(math.ceil(size / len(block)))[:size]
        self.target = self.source.clone()


def _whole_pages(elements: int, dtype: torch.dtype) -> int:
    page = PAGE // dtype.itemsize
    return math.ceil(elements / page) * page


class Problem:
    """Random rows ``[rows, d]`` under `Law.PRESERVE`, and the outputs.

    Each row has another slot than its neighbours, in turn of `SLOTS`; with ``one_slot`` all have
    the same one, as those of a prompt.
    """

    def __init__(
        self,
        rows: int,
        d: int,
        dtype: torch.dtype,
        pool: Pool | None = None,
        *,
        one_slot: bool = False,
    ) -> None:
        self._pool = pool or Pool(dtype, rows * d)
        second = _whole_pages(rows * d, dtype)

        def part(memory: Tensor, start: int) -> Tensor:
            return memory[start : start + rows * d].view(rows, d)

        self.x, self.residual = (part(self._pool.source, start) for start in (0, second))
        self.y, self.normed = (part(self._pool.target, start) for start in (0, second))
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.rand(d, generator=generator).add(0.5).to(dtype)
        self.bias = torch.randn(d, generator=generator).to(dtype)
        slots = torch.zeros(rows) if one_slot else torch.arange(rows) % SLOTS
        self.token_slot = slots.to(torch.int32)
        self._basis = torch.randn(VECTORS, d, generator=generator).to(dtype)
        self._law = torch.full((SLOTS,), int(Law.PRESERVE), dtype=torch.int32)

    def bytes(self, form: str = RMS_NORM) -> int:
        """Read and written by one call."""
        return FORMS[form] * self.x.numel() * self.x.element_size()

    def tables(self, components: int) -> tuple[Tensor, ...]:
        """The last arguments of every operation; with 0 components no row is steered.

        Slot s mixes the vectors s, s + 1, ... .
        """
        many = max(components, 1)
        number = torch.arange(SLOTS)[:, None] + torch.arange(many)
        ids = (number % VECTORS).to(torch.int32)
        weights = 0.5 + torch.rand(SLOTS, many, generator=torch.Generator().manual_seed(1))
        slots = self.token_slot if components else torch.full_like(self.token_slot, -1)
        return self._basis, slots, ids, weights, self._law

    def arguments(self, tables: tuple[Tensor, ...]) -> tuple:
        """Those of `add_steer_rms_norm`."""
        return self.x, self.residual, self.weight, EPS, int(Cast.LLAMA), *tables

    def copy(self, form: str = RMS_NORM) -> Call:
        """As many bytes as a call reads and writes, into memory that is there."""
        count = FORMS[form] * self.x.numel() // 2
        source, target = self._pool.source[:count], self._pool.target[:count]
        return lambda: target.copy_(source)

    def plain_add(self) -> Tensor:
        """What the form without a norm adds to: x + residual, a new tensor."""
        return self.x + self.residual

    def call(self, components: int, form: str = RMS_NORM) -> Call:
        """The operation, into given outputs where it has a norm; 0 components steer no row."""
        tables = self.tables(components)
        operation = getattr(torch.ops.emokernel, form).default
        rows, given = (self.x, self.residual), {"normed": self.normed, "y": self.y}
        if form == RMS_NORM:
            arguments = self.arguments(tables)
            return lambda: operation(*arguments, **given)
        if form == LAYER_NORM:
            return lambda: operation(*rows, self.weight, self.bias, EPS, *tables, **given)
        if form == IN_PLACE:
            cast, both = int(Cast.VLLM), (self.y, self.normed)
            return lambda: operation(*both, self.weight, EPS, cast, *tables)
        return lambda: operation(*rows, *tables)


@cache
def _choose() -> Callable[[bytes], bool]:
    choose = ctypes.CDLL(str(cpu.LIBRARY)).emokernel_use_cpu_isa
    choose.restype = ctypes.c_bool
    return choose


def use_isa(name: str) -> None:
    """From now on the kernels of this instruction set run; ValueError if they cannot here."""
    if not _choose()(name.encode()):
        raise ValueError(f"{name} cannot run here: {', '.join(isas())} can")


def isas() -> list[str]:
    """The instruction sets that this machine can run."""
    return list(_build_info.isas_supported())


def timed(
    call: Call,
    repeats: int = 1,
    *,
    isa: str | None = None,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], float]:
    """A reading: seconds of one of ``repeats`` calls, by that ISA and so many threads."""

    def read() -> float:
        if isa is not None:
            use_isa(isa)
        if threads is not None:
            torch.set_num_threads(threads)
        start = clock()
        for _ in range(repeats):
            call()
        return (clock() - start) / repeats

    return read


def repeats_for(seconds: float, read: Callable[[], float]) -> int:
    """How many calls make a reading of about so long: ``read`` is a reading of one."""
    read()
    return max(1, round(seconds / max(read(), 1e-7)))
