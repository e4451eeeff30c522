"""What a patched model hands to its kernels, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emokernel.ops import Backend
from emokernel.ops.schemas import NORMS
from emokernel.patch.placed import Placed
from emokernel.steering import Steering


@dataclass(frozen=True)
class SiteCall:
    """One call of a row operation: the rows before and after the law, ``[rows, d]``.

    ``before`` is rounded to the stream's dtype, as the unpatched model would hold it.
    """

    before: Tensor
    after: Tensor

    @property
    def steered(self) -> Tensor:
        """Which rows were changed, bool ``[rows]``."""
        return (self.after != self.before).any(-1)


@contextmanager
def recorded(steering: Steering) -> Iterator[list[SiteCall]]:
    """The calls of the row operations within the block, in order.

    The kernels themselves run as ever; what they were given is kept beside.
    """
    calls: list[SiteCall] = []
    kept: list[tuple[Placed, Backend]] = [(each, each.backend) for each in steering.placed]
    for placed, backend in kept:
        placed.backend = _recording(backend, calls)
    try:
        yield calls
    finally:
        for placed, backend in kept:
            placed.backend = backend


def _recording(backend: Backend, calls: list[SiteCall]) -> Backend:
    def keep(before: Tensor, after: Tensor) -> None:
        calls.append(SiteCall(before.flatten(0, -2).clone(), after.flatten(0, -2).clone()))

    def steer(h: Tensor, *tables: Tensor) -> Tensor:
        y = backend.steer(h, *tables)
        keep(h, y)
        return y

    def add_steer(x: Tensor, residual: Tensor, *tables: Tensor) -> Tensor:
        y = backend.add_steer(x, residual, *tables)
        keep(x + residual, y)
        return y

    def fused(operation: Callable) -> Callable:
        def run(x: Tensor, residual: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
            normed, y = operation(x, residual, *rest)
            keep(x + residual, y)
            return normed, y

        return run

    return replace(
        backend, steer=steer, add_steer=add_steer,
        **{name: fused(getattr(backend, name)) for name in NORMS},
    )  # fmt: skip


def sites(calls: list[SiteCall]) -> list[SiteCall]:
    """Those that changed a row."""
    return [call for call in calls if bool(torch.any(call.steered))]
