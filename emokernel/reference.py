"""The specification: the row law and the fused row operations in plain PyTorch.

Every backend is compared with this file. A *row* is one token's residual-stream vector ``h`` of
length ``d``, after the branch output has been added and rounded to the stream's dtype. Its slot
names a mix of emotion vectors of the layer:

    v = sum_k w_k * e_k        fp32, k in order, components with w_k = 0 skipped
    t = h + c * v              fp32
    y = r * t                  fp32, then one rounding to the stream's dtype

    law         c = 1 (add, arXiv 2502.04075)            r = 1
    PRESERVE    c = 1                                    r = |h| / |t|
    RELATIVE    c = |h| (with either)                    r as above

Wherever the law cannot be evaluated in fp32 (``h`` or ``t`` zero, a sum of squares outside
``SUM_RANGE``, a row that is not finite), the row is left untouched: y = h.

Arguments shared by all operations, besides the rows themselves (``[..., d]``):

    basis       [E, d]  emotion vectors of this layer, in the stream's dtype or fp32
    token_slot  [>= rows] int32, the slot of each row; -1, or no such slot, leaves the row untouched
    ids         [S, K] int32, rows of ``basis``; a number outside it makes the component absent
    weights     [S, K] fp32
    law         [S] int32, bits of `Law`
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import torch
from torch import Tensor

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_COMPONENTS = 8
# Below 2^-100 a sum of squares in fp32 has lost too much to subnormals for a result within 1e-6.
SUM_RANGE = (2.0**-100, torch.finfo(torch.float32).max)


class Law(IntFlag):
    """How a slot changes its rows; the value 0 is plain addition."""

    ADD = 0
    PRESERVE = 1
    RELATIVE = 2


class Cast(IntEnum):
    """Where a fused RMSNorm rounds and multiplies; u is the row, n = u * rsqrt(mean(u^2) + eps).

    LLAMA: round(n) * w, both in the stream's dtype.  GEMMA: n * (1 + w) in fp32, one rounding.
    OLMO: n * w in fp32, one rounding.  VLLM: as LLAMA, with u the row before it was rounded.
    """

    LLAMA = 0
    GEMMA = 1
    OLMO = 2
    VLLM = 3


def mix(
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    compute: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """The vector of every row: v ``[rows, d]``, and which rows have one ``[rows]`` bool.

    v is fp32 by definition; ``compute`` as in `row_law`.
    """
    rows, (slots, components) = token_slot.numel(), ids.shape
    v = torch.zeros(rows, basis.shape[1], dtype=compute, device=basis.device)
    touched = torch.zeros(rows, dtype=torch.bool, device=basis.device)
    if slots == 0 or basis.shape[0] == 0:
        return v, touched
    has_slot = (token_slot >= 0) & (token_slot < slots)
    slot = torch.where(has_slot, token_slot, 0).long()
    for k in range(components):
        number, w = ids[slot, k], weights[slot, k]
        present = has_slot & (w != 0) & (number >= 0) & (number < basis.shape[0])
        e = basis[torch.where(present, number, 0).long()].to(compute)
        v = torch.where(present[:, None], v + w[:, None] * e, v)
        touched = touched | present
    return v, touched


def scalars(h: Tensor, v: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c, r, which rows the law could be evaluated for) ``[rows]``, of h and v in one dtype."""
    preserve, relative = (law & Law.PRESERVE) != 0, (law & Law.RELATIVE) != 0
    h_norm, h_computable = _norms(h, preserve | relative)
    c = torch.where(relative, h_norm, 1.0)
    t_norm, t_computable = _norms(h + c[:, None] * v, preserve)
    r = torch.where(preserve, h_norm / t_norm, 1.0)
    return c, r, h_computable & t_computable


def row_law(
    h: Tensor, v: Tensor, law: Tensor, compute: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """(r * (h + c * v) before its rounding, which rows the law could be evaluated for).

    h ``[rows, d]`` stream dtype, v ``[rows, d]`` fp32, law ``[rows]`` int32. ``compute`` is fp32 by
    definition; tests ask for fp64 to judge an implementation by the exact value.
    """
    h, v = h.to(compute), v.to(compute)
    c, r, computable = scalars(h, v, law)
    return r[:, None] * (h + c[:, None] * v), computable


def _norms(rows: Tensor, needed: Tensor) -> tuple[Tensor, Tensor]:
    """(Norms, which are in range); a row that does not need its own counts as in range, with 1.

    Those are left out before the sum, so that what is not finite in one gets into no derivative.
    """
    total = torch.where(needed[:, None], rows, 0.0).square().sum(-1)
    computable = (total >= SUM_RANGE[0]) & (total <= SUM_RANGE[1])
    return torch.where(computable, total, 1.0).sqrt(), computable | ~needed


def _steered(
    h: Tensor,
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    law: Tensor,
    compute: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """(The steered rows before their rounding, which rows are steered) of h ``[rows, d]``."""
    rows, slots = h.shape[0], ids.shape[0]
    token_slot = token_slot[:rows]
    v, touched = mix(basis, token_slot, ids, weights, compute)
    if slots == 0:
        return h.to(compute), touched
    y, lawful = row_law(h, v, law[token_slot.clamp(0, slots - 1).long()], compute)
    return y, touched & lawful


def steer(
    h: Tensor,
    basis: Tensor,
    token_slot: Tensor,
    ids: Tensor,
    weights: Tensor,
    law: Tensor,
    compute: torch.dtype = torch.float32,
) -> Tensor:
    """The law alone: h ``[..., d]`` -> y of the same shape and dtype; ``compute`` as `row_law`."""
    rows = h.reshape(-1, h.shape[-1])
    y, steered = _steered(rows, basis, token_slot, ids, weights, law, compute)
    return torch.where(steered[:, None], y.to(h.dtype), rows).reshape(h.shape)


def add_steer(
    x: Tensor, residual: Tensor, basis: Tensor, token_slot: Tensor, ids: Tensor, weights: Tensor,
    law: Tensor,
) -> Tensor:  # fmt: skip
    """y = law(round(x + residual)); x is the branch output, both ``[..., d]``."""
    return steer(x + residual, basis, token_slot, ids, weights, law)


def rms_norm(u: Tensor, weight: Tensor, eps: float, cast: int) -> Tensor:
    """RMSNorm of the fp32 rows ``u [..., d]`` into the dtype of ``weight [d]`` (see `Cast`)."""
    n = u * torch.rsqrt(u.square().mean(-1, keepdim=True) + eps)
    if cast == Cast.GEMMA:
        return (n * (1.0 + weight.float())).to(weight.dtype)
    if cast == Cast.OLMO:
        return (n * weight.float()).to(weight.dtype)
    return n.to(weight.dtype) * weight


def add_steer_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, cast: int, basis: Tensor,
    token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(normed, y): y as in `add_steer`, normed = RMSNorm of y with weight ``[d]``.

    The norm sees the rounded y, except under `Cast.VLLM`, where it sees the row before rounding.
    """
    h = (x + residual).reshape(-1, x.shape[-1])
    steered_row, steered = _steered(h, basis, token_slot, ids, weights, law)
    y = torch.where(steered[:, None], steered_row.to(h.dtype), h)
    if cast == Cast.VLLM:
        exact = (x.float() + residual.float()).reshape(h.shape)
        normed = rms_norm(torch.where(steered[:, None], steered_row, exact), weight, eps, cast)
    else:
        normed = rms_norm(y.float(), weight, eps, cast)
    return normed.reshape(x.shape), y.reshape(x.shape)


def steer_rms_norm_(
    y: Tensor, normed: Tensor, weight: Tensor, eps: float, cast: int, basis: Tensor,
    token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor,
) -> None:  # fmt: skip
    """Steers in place behind an engine whose own fused add and RMSNorm has run.

    On entry y ``[..., d]`` is h, the engine's rounded sum, and normed what its norm made of it.
    Rows that the law changes get the bits (normed, y) of `add_steer_rms_norm` of h and a residual
    of -0 (which is h and nothing else): y = law(h), and normed the norm of that, under `Cast.VLLM`
    of the steered row before its rounding. h is rounded before the law in both, so that they are
    those of the fully fused operation as well. All others keep every bit of both, whatever these
    are; backends neither write them nor, without a mix, read them.

    It is the one operation that writes to the incoming residual, which there is a buffer of the
    engine's own. Backends want y and normed contiguous, apart from each other and from the tables.
    """
    h = y.reshape(-1, y.shape[-1])
    steered_row, steered = _steered(h, basis, token_slot, ids, weights, law)
    rounded = steered_row.to(y.dtype)
    seen = steered_row if cast == Cast.VLLM else rounded.float()
    changed = steered.reshape(*y.shape[:-1], 1)
    steered_normed = rms_norm(seen, weight, eps, cast).reshape(y.shape)
    y.copy_(torch.where(changed, rounded.reshape(y.shape), y))
    normed.copy_(torch.where(changed, steered_normed, normed))


def layer_norm(u: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm of the fp32 rows ``u [..., d]`` into the dtype of ``weight [d]``.

    (u - mean) * rsqrt(variance + eps) * weight + bias in fp32, one rounding; the variance is the
    mean of the squared deviations (biased, as in torch.nn.LayerNorm).
    """
    centred = u - u.mean(-1, keepdim=True)
    n = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return (n * weight.float() + bias.float()).to(weight.dtype)


def add_steer_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, basis: Tensor,
    token_slot: Tensor, ids: Tensor, weights: Tensor, law: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(normed, y): y as in `add_steer`, normed = LayerNorm of y with weight and bias ``[d]``."""
    y = add_steer(x, residual, basis, token_slot, ids, weights, law)
    return layer_norm(y.float(), weight, bias, eps), y
