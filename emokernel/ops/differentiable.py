"""The row law for training: a backend's kernel forward, its first derivative backward.

With the unit rows h/|h| and u = t/|t|, g the gradient of y, n = |h|, and P and R one where the law
preserves or is relative (`emokernel.reference`), the derivative of y = r * (h + c * v) is

    dt = r * (g - P * <g, u> * u)
    dn = P * <g, u> + R * <dt, v>
    dh = dt + dn * h/|h|
    dv = c * dt        de_k = sum over rows of w_k * dv        dw_k = sum over rows of <e_k, dv>

Rows that are untouched, or for which the law cannot be evaluated, pass g on as it is and give
nothing to basis and weights. Of each row only h is kept; v is computed again.

Gradients reach the rows, the basis and the weights. A weight of zero has the gradient that the law
has there, although it adds nothing. There is no second derivative: torch refuses it with
RuntimeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from emokernel import reference
from emokernel.ops.backends import Backend, select
from emokernel.reference import Law

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def steer(
    h: Tensor,
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    law: Tensor,
    *,
    backend: Backend | None = None,
) -> Tensor:
    """The law alone, as `emokernel.reference.steer`, with a first derivative.

    ``backend`` runs forward where it takes these dtypes, the reference where it does not (fp64,
    computed in fp64); unless given, the one that is chosen for the device. What its kernels refuse
    raises RuntimeError.
    """
    backend = select(h.device) if backend is None else backend
    return _RowLaw.apply(h, basis, token_slot, ids, weights, law, backend.steer)


def add_steer(
    x: Tensor,
    residual: Tensor,
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    law: Tensor,
    *,
    backend: Backend | None = None,
) -> Tensor:
    """y = law(round(x + residual)), as `emokernel.reference.add_steer`; see `steer`."""
    return steer(x + residual, basis, token_slot, ids, weights, law, backend=backend)


class _RowLaw(Function):
    @staticmethod
    def forward(
        h: Tensor,
        basis: Tensor,
        token_slot: Tensor,
        ids: Tensor,
        weights: Tensor,
        law: Tensor,
        kernel: Callable[..., Tensor],
    ) -> Tensor:
        if h.dtype in STREAM_DTYPES and basis.dtype in (h.dtype, torch.float32):
            return kernel(h.contiguous(), basis, token_slot, ids, weights, law)
        return reference.steer(h, basis, token_slot, ids, weights, law, _compute(h))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(g, *ctx.saved_tensors, wanted=ctx.needs_input_grad), None


def _compute(h: Tensor) -> torch.dtype:
    return torch.float64 if h.dtype is torch.float64 else torch.float32


def _gradients(
    g: Tensor,
    h: Tensor,
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    law: Tensor,
    *,
    wanted: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The gradients of (h, basis, token_slot, ids, weights, law); None where none is wanted."""
    of_h, of_basis, _, _, of_weights, *_ = wanted
    slots, d = ids.shape[0], h.shape[-1]
    if slots == 0 or len(basis) == 0 or h.numel() == 0:
        return (
            g if of_h else None, torch.zeros_like(basis) if of_basis else None, None, None,
            torch.zeros_like(weights) if of_weights else None, None,
        )  # fmt: skip
    compute = _compute(h)
    rows, gradient = h.reshape(-1, d).to(compute), g.reshape(-1, d).to(compute)
    token_slot = token_slot[: len(rows)]
    has_slot = (token_slot >= 0) & (token_slot < slots)
    slot = torch.where(has_slot, token_slot, 0).long()
    v, touched = reference.mix(basis, token_slot, ids, weights, compute)
    dh, dv, lawful = _row_gradients(gradient, rows, v, law[slot])
    grad_h = grad_basis = grad_weights = None
    if of_h:
        passed = (touched & lawful)[:, None]
        grad_h = torch.where(passed, dh, gradient).to(h.dtype).reshape(h.shape)
    if of_basis or of_weights:
        dv = torch.where((has_slot & lawful)[:, None], dv, 0.0)
        of_slot = torch.zeros(slots, d, dtype=compute, device=h.device).index_add_(0, slot, dv)
        number, present = _components(ids, len(basis))
        if of_basis:
            grad_basis = torch.zeros(basis.shape, dtype=compute, device=basis.device)
            w = torch.where(present, weights, 0.0).to(compute)
            for k in range(ids.shape[1]):
                grad_basis.index_add_(0, number[:, k], w[:, k, None] * of_slot)
            grad_basis = grad_basis.to(basis.dtype)
        if of_weights:
            by_component = [
                (of_slot * basis[number[:, k]].to(compute)).sum(-1) for k in range(ids.shape[1])
            ]
            grad_weights = torch.where(present, torch.stack(by_component, 1), 0.0)
            grad_weights = grad_weights.to(weights.dtype)
    return grad_h, grad_basis, None, None, grad_weights, None


def _components(ids: Tensor, vectors: int) -> tuple[Tensor, Tensor]:
    """(Rows of the basis ``[S, K]``, 0 where there is none; where there is one)."""
    present = (ids >= 0) & (ids < vectors)
    return torch.where(present, ids, 0).long(), present


def _row_gradients(g: Tensor, h: Tensor, v: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(dh, dv, which rows the law could be evaluated for); all rows ``[rows, d]``, one dtype."""
    preserve = ((law & Law.PRESERVE) != 0)[:, None]
    relative = ((law & Law.RELATIVE) != 0)[:, None]
    h_norm, h_computable = reference.norms(h)
    c = torch.where(relative, h_norm[:, None], 1.0)
    t = h + c * v
    t_norm, t_computable = reference.norms(t)
    h_norm, t_norm = h_norm[:, None], t_norm[:, None]
    u = t / t_norm
    along = torch.where(preserve, (g * u).sum(-1, keepdim=True), 0.0)
    dt = torch.where(preserve, (h_norm / t_norm) * (g - along * u), g)
    dn = along + torch.where(relative, (dt * v).sum(-1, keepdim=True), 0.0)
    needs_norm = preserve | relative
    dh = dt + torch.where(needs_norm, dn * (h / h_norm), 0.0)
    lawful = (h_computable | ~needs_norm[:, 0]) & (t_computable | ~preserve[:, 0])
    return dh, c * dt, lawful
