"""vLLM's fused add and RMSNorm, steered: the class of one norm instance is exchanged.

Its weight, its names and whatever vLLM has chosen to compute it with stay. `Exact` lets vLLM's own
norm run and changes the rows that are steered behind it, in place, so that the others have the bits
that they have without the plugin. `Fused` computes sum, steering and norm in one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError
from emokernel.numerics import MAX_RMS_NORM_ULP, ulp_distance
from emokernel.ops import Backend
from emokernel.reference import Cast, rms_norm
from emokernel.state.device import Tables


class Exact:
    """Mixed into the class of a norm: its own result, of which steered rows are rewritten."""

    def forward(self: Any, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        normed, y = super().forward(x, residual)  # pyright: ignore[reportAttributeAccessIssue]
        self.steer_operation(
            y, normed, self.weight, self.variance_epsilon, self.steer_cast, *self.steer_tables
        )
        return normed, y


class Fused:
    """Mixed into the class of a norm: one operation in its place."""

    def forward(self: Any, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return self.steer_operation(
            x, residual, self.weight, self.variance_epsilon, self.steer_cast, *self.steer_tables
        )


def steer_norm(
    norm: Any, exact: bool, backend: Backend, tables: Tables, token_slot: Tensor
) -> None:
    """Steer the rows of one norm, from now on; ModelStructureError if its kind is not known."""
    cast = cast_of(norm)
    norm.steer_operation = operation(backend, exact)
    basis, *slots = tables
    norm.steer_cast, norm.steer_tables = int(cast), (basis, token_slot, *slots)
    kind = type(norm)
    norm.__class__ = type("Steered" + kind.__name__, (Exact if exact else Fused, kind), {})


def operation(backend: Backend, exact: bool) -> Callable:
    """What a norm calls: the registered operation, since what is around it would break a graph."""
    name = "steer_rms_norm_" if exact else "add_steer_rms_norm"
    registered = backend.namespace and getattr(torch.ops, backend.namespace)
    return getattr(registered, name).default if registered else getattr(backend, name)


@torch.inference_mode()
def cast_of(norm: Any) -> Cast:
    """Where a norm rounds and multiplies, found by running it; the nearest of those that fit.

    ModelStructureError if none does within `MAX_RMS_NORM_ULP`, or its sum is not rounded to the
    stream's dtype.
    """
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    name = type(norm).__name__
    if not isinstance(weight, nn.Parameter) or weight.dim() != 1 or not isinstance(eps, float):
        raise ModelStructureError(f"{name} is no RMSNorm with a weight")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 64, len(weight), generator=generator)
    rows *= torch.logspace(-3, 2, 64)[:, None]
    x, residual = rows.to(weight.device, weight.dtype)
    normed, y = norm(x.clone(), residual.clone())
    fits: dict[Cast, float] = {}
    if {normed.dtype, y.dtype} == {weight.dtype} and torch.equal(y, x + residual):
        for cast in (Cast.VLLM, *Cast):
            sums = x.float() + residual.float() if cast is Cast.VLLM else y.float()
            distance = ulp_distance(rms_norm(sums, weight, eps, cast), normed)
            if distance.max() <= MAX_RMS_NORM_ULP[weight.dtype]:
                fits.setdefault(cast, float((distance > 0).float().mean()))
    if not fits:
        raise ModelStructureError(f"{name} computes no RMSNorm that the kernels know")
    return min(fits, key=lambda cast: fits[cast])
