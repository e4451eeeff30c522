"""The row law for training: a backend's kernel forward, its first derivative backward.

dh and dv of a row are what autograd makes of `emokernel.reference.row_law`; from dv follow

    de_k = sum over rows of w_k * dv        dw_k = sum over rows of <e_k, dv>

Rows that are untouched, or for which the law cannot be evaluated, pass g, the gradient of y, on as
it is and give nothing to basis and weights. Of each row only h is kept; v is computed again.

Gradients reach the rows, the basis and the weights. A weight of zero has the gradient that the law
has there, although it adds nothing. There is no second derivative: torch refuses it with
RuntimeError.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.func import vjp

from emokernel import reference
from emokernel.ops.backends import Backend
from emokernel.reference import STREAM_DTYPES


def steer(h: Tensor, *tables: Tensor, backend: Backend) -> Tensor:
    """The law alone, as `emokernel.reference.steer`, with a first derivative.

    ``backend`` runs forward where it takes these dtypes, the reference where it does not (fp64,
    computed in fp64). What its kernels refuse raises RuntimeError.
    """
    return _RowLaw.apply(h, *tables, backend.steer)


class _RowLaw(Function):
    @staticmethod
    def forward(h: Tensor, basis: Tensor, *slots_and_kernel: Any) -> Tensor:
        *slots, kernel = slots_and_kernel
        if h.dtype in STREAM_DTYPES and basis.dtype in (h.dtype, torch.float32):
            return kernel(h.contiguous(), basis, *slots)
        return reference.steer(h, basis, *slots, compute=_compute(h))

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:-1])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, g: Tensor
    ) -> tuple[Tensor | None, ...]:
        h, basis, token_slot, ids, weights, law = ctx.saved_tensors
        of_h, of_basis, _, _, of_weights, *_ = ctx.needs_input_grad
        slots, d = ids.shape[0], h.shape[-1]
        grad_h = g if of_h else None
        grad_basis = torch.zeros_like(basis) if of_basis else None
        grad_weights = torch.zeros_like(weights) if of_weights else None
        if slots == 0 or len(basis) == 0 or h.numel() == 0:
            return grad_h, grad_basis, None, None, grad_weights, None, None
        compute = _compute(h)
        rows, gradient = h.reshape(-1, d).to(compute), g.reshape(-1, d).to(compute)
        token_slot = token_slot[: len(rows)]
        has_slot = (token_slot >= 0) & (token_slot < slots)
        slot = torch.where(has_slot, token_slot, 0).long()
        v, touched = reference.mix(basis, token_slot, ids, weights, compute)

        dh, dv, lawful = _row_gradients(gradient, rows, v, law[slot], compute)
        if of_h:
            passed = (touched & lawful)[:, None]
            grad_h = torch.where(passed, dh, gradient).to(h.dtype).reshape(h.shape)
        if not (of_basis or of_weights):
            return grad_h, None, None, None, None, None, None
        dv = torch.where((has_slot & lawful)[:, None], dv, 0.0)
        of_slot = torch.zeros(slots, d, dtype=compute, device=h.device).index_add_(0, slot, dv)
        present = (ids >= 0) & (ids < len(basis))
        number = torch.where(present, ids, 0).long()
        w = torch.where(present, weights, 0.0).to(compute)
        if of_basis:
            total = torch.zeros(basis.shape, dtype=compute, device=basis.device)
            for k in range(ids.shape[1]):
                total.index_add_(0, number[:, k], w[:, k, None] * of_slot)
            grad_basis = total.to(basis.dtype)
        if of_weights:
            vectors = (basis[number[:, k]].to(compute) for k in range(ids.shape[1]))
            products = torch.stack([(of_slot * e).sum(-1) for e in vectors], 1)
            grad_weights = torch.where(present, products, 0.0).to(weights.dtype)
        return grad_h, grad_basis, None, None, grad_weights, None, None


def _compute(h: Tensor) -> torch.dtype:
    return torch.float64 if h.dtype is torch.float64 else torch.float32


def _row_gradients(
    g: Tensor, h: Tensor, v: Tensor, law: Tensor, compute: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(dh, dv, which rows the law could be evaluated for); all rows ``[rows, d]``."""

    def row_law(h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return reference.row_law(h, v, law, compute)

    # torch.compile traces the one alone, and hooks of saved tensors take the other alone.
    if torch.compiler.is_compiling():
        _, derivative, lawful = vjp(row_law, h, v, has_aux=True)  # pyright: ignore[reportAssignmentType]
        dh, dv = derivative(g)
        return dh, dv, lawful
    with torch.enable_grad():
        leaves = h.detach().requires_grad_(), v.detach().requires_grad_()
        y, lawful = row_law(*leaves)
        dh, dv = torch.autograd.grad(y, leaves, g)
    return dh, dv, lawful
