"""What the kernels are given and give back, and what the law makes of a row by plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from emokernel.choices import law_bits
from emokernel.ops.schemas import NORMS
from emokernel.reference import row_law
from emokernel.steering import Steering
from emokernel.vectors.calibration import key_of

# The contract of the kernels: relative error of a row in fp32, ulp of an element in the halves.
_FP32_ERROR, _HALF_ULP = 2e-6, 1
_CANCELLED = 1e-6
# How far the amount along the vector may be from that of the law, rounded once.
_AMOUNT = 5e-3


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

    def recording(name: str, operation: Callable) -> Callable:
        def run(x: Tensor, *rest: Any) -> Any:
            made = operation(x, *rest)
            before, after = x if name == "steer" else x + rest[0], made
            if name in NORMS:
                _, after = made
            calls.append(SiteCall(before.flatten(0, -2).clone(), after.flatten(0, -2).clone()))
            return made

        return run

    kept = [(placed, placed.backend) for placed in steering.placed]
    for placed, own in kept:
        names = ("steer", "add_steer", *NORMS)
        placed.backend = replace(
            own, **{name: recording(name, getattr(own, name)) for name in names}
        )
    try:
        yield calls
    finally:
        for placed, own in kept:
            placed.backend = own


def sites(calls: list[SiteCall]) -> list[SiteCall]:
    """Those that changed a row."""
    return [call for call in calls if call.steered.any()]


@dataclass(frozen=True)
class Deviation:
    """How far rows are from the law.

    ``amount``: how far they moved along the vector, over how far the law says, rounded once to the
    stream's dtype; ``error``: the largest relative error of a row (fp32) or of an element in ulp
    (halves), against the law before it is rounded; ``norm``: the largest relative change of a row's
    norm; ``survives``: the share of what the law says before rounding that the rounding leaves.
    """

    amount: float
    error: float
    norm: float
    survives: float
    dtype: torch.dtype

    @property
    def keeps_law(self) -> bool:
        """Whether amount and error are within the contract."""
        limit = _FP32_ERROR if self.dtype is torch.float32 else _HALF_ULP
        return abs(self.amount - 1) <= _AMOUNT and self.error <= limit

    @property
    def keeps_norm(self) -> bool:
        """Whether no row's norm changed by more than rounding does."""
        return self.norm <= 4 * torch.finfo(self.dtype).eps

    def __str__(self) -> str:
        unit = "relative" if self.dtype is torch.float32 else "ulp"
        told = f"amount {self.amount:.5f} of the law's, error {self.error:.1e} {unit}"
        if abs(self.survives - 1) > _AMOUNT:
            told += f" (rounding to {self.dtype} leaves {self.survives:.3f} of it)"
        return told.replace("torch.", "")


def deviation(call: SiteCall, vector: Tensor, law: str, dose: str) -> Deviation:
    """Of the steered rows of a call from the law with ``vector`` ``[d]`` fp32."""
    rows = call.steered
    before, after = call.before[rows].cpu(), call.after[rows].cpu()
    bits = torch.full((len(before),), int(law_bits(law, dose)))
    exact, _ = row_law(before, vector.expand(len(before), -1), bits, torch.float64)
    h, y = before.double(), after.double()
    along = vector.double()
    # Rounded once, since rows of huge elements, as of a first token, hardly move in bf16.
    rounded = exact.to(before.dtype).double()
    moved, wanted, unrounded = (((to - h) @ along).sum() for to in (y, rounded, exact))
    if before.dtype is torch.float32:
        error = ((y - exact).norm(dim=-1) / exact.norm(dim=-1)).max()
    else:
        # Where row and vector all but cancel, the fp32 in which the law is evaluated is the limit.
        kind = torch.finfo(before.dtype)
        grid = kind.eps * exact.abs().clamp(min=kind.tiny)  # below, the spacing stays the same
        grid += _CANCELLED * (h.abs() + along.abs())
        error = ((y - exact).abs() / grid).max()
    norm = (y.norm(dim=-1) / h.norm(dim=-1) - 1).abs().max()
    return Deviation(
        float(moved / wanted), float(error), float(norm), float(wanted / unrounded), before.dtype
    )


def full_vector(
    steering: Steering, name: str, layer: int, law: str, dose: str, dtype: torch.dtype
) -> Tensor:
    """The vector ``[d]`` fp32 that an emotion at strength 1.0 adds in a layer.

    As the kernels hold it: rounded to the stream's ``dtype``, of unit norm where the dose is
    relative.
    """
    vector = steering.vectors[name][layer].to(dtype).float()
    weight, calibration = 1.0, steering.calibration
    if calibration is not None:
        weight = calibration.strengths[key_of(law, dose)][name] * calibration.profile[layer]
    norm = float(vector.norm())
    if dose == "relative" and norm:  # a vector that is zero in a layer does nothing there
        weight = weight / norm
    return weight * vector
