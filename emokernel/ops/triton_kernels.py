"""The Triton row kernel: one program per row, the whole row in one block.

The specification is `emokernel.reference`. All arithmetic is fp32, multiplications and additions
are rounded one by one (compile with ``enable_fp_fusion=False``).
"""

# Triton's types are values to others.
# pyright: reportInvalidTypeForm=false
from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

from emokernel.reference import SUM_RANGE, Cast, Law

# The interpreter rounds fp32 to bf16 towards zero and loses bf16 subnormals on the way to fp32, so
# there both ways go by bits; a GPU has one correct instruction for each.
INTERPRETED = tl.constexpr(knobs.runtime.interpret)

NO_NORM = tl.constexpr(0)
LAYER_NORM = tl.constexpr(2)  # 1: an RMSNorm

PRESERVE = tl.constexpr(int(Law.PRESERVE))
RELATIVE = tl.constexpr(int(Law.RELATIVE))
GEMMA = tl.constexpr(int(Cast.GEMMA))
OLMO = tl.constexpr(int(Cast.OLMO))
VLLM = tl.constexpr(int(Cast.VLLM))
SMALLEST_SUM = tl.constexpr(SUM_RANGE[0])
LARGEST_SUM = tl.constexpr(SUM_RANGE[1])


@triton.jit
def rounded(values, dtype: tl.constexpr):
    """fp32 ``values`` in ``dtype``, rounded to nearest even; NaN stays NaN."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = values.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        bits = tl.where(values == values, bits, 0x7FC0)
        return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return values.to(dtype)


@triton.jit
def widened(values):
    """``values`` in fp32, which holds them all."""
    if INTERPRETED and values.dtype == tl.bfloat16:
        bits = values.to(tl.uint16, bitcast=True).to(tl.uint32) << 16
        return bits.to(tl.float32, bitcast=True)
    return values.to(tl.float32)


@triton.jit
def pointers(base, first, columns, VECTOR: tl.constexpr):
    """Pointers to ``columns`` from element ``first`` on; with VECTOR > 1 aligned to 16 bytes."""
    result = base + first + columns
    if VECTOR > 1:
        result = tl.multiple_of(result, 16)
    return result


@triton.jit
def in_range(total):
    return (total >= SMALLEST_SUM) & (total <= LARGEST_SUM)


@triton.jit
def inverse_root_of_mean(total, eps, D: tl.constexpr):
    """1 / sqrt(total / D + eps)."""
    mean = tl.div_rn(total, tl.full((), D, tl.float32))
    return tl.div_rn(tl.full((), 1.0, tl.float32), tl.sqrt_rn(mean + tl.full((), eps, tl.float32)))


@triton.jit
def record(law, ids, weights, has_slot, K: tl.constexpr, WARPS: tl.constexpr):
    """The words of a slot, [32] int32: its law, K ids and K weights; zeros without a slot.

    The first of the program's WARPS reads them, and all get what it has read: another stream may
    rewrite a slot meanwhile, and warps that had read for themselves could part before a barrier.
    """
    warp = tl.arange(0, WARPS)[:, None]
    place = tl.arange(0, 32)[None, :]
    words = weights.to(tl.pointer_type(tl.int32), bitcast=True) + (place - 1 - K)
    words = tl.where(place <= K, ids + (place - 1), words)
    words = tl.where(place == 0, law + place, words)
    return tl.sum(tl.load(words + 0 * warp, (warp == 0) & (place <= 2 * K) & has_slot, 0), 0)


_RUN_TIME = (
    "x residual y normed norm_weight norm_bias basis token_slot ids weights law"
    " x_stride residual_stride basis_stride"
    " token_slot_stride ids_stride weights_stride law_stride vectors slots eps"
).split()


# Nothing is specialised on the values of run-time arguments: what a row computes, and in which
# order, must not depend on where it lies. What is known of the alignment is said by VECTOR.
@triton.jit(do_not_specialize=_RUN_TIME)
def row_kernel(
    x,
    residual,
    y,
    normed,
    norm_weight,
    norm_bias,
    basis,
    token_slot,
    ids,
    weights,
    law,
    x_stride: tl.int64,
    residual_stride: tl.int64,
    basis_stride: tl.int64,
    token_slot_stride: tl.int64,
    ids_stride: tl.int64,
    weights_stride: tl.int64,
    law_stride: tl.int64,
    vectors: tl.int64,
    slots: tl.int64,
    eps: tl.float32,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    PREFETCH: tl.constexpr,
    K: tl.constexpr,
    NORM: tl.constexpr,
    CAST: tl.constexpr,
    IN_PLACE: tl.constexpr,
    WARPS: tl.constexpr,
):
    """y, and normed unless NORM is NO_NORM, of the row ``program_id``.

    Strides are in elements; y and normed are contiguous. ``residual`` is None for steer; ``normed``
    and what the norm needs are None without one, and PREFETCH loads the latter before the sums.
    With VECTOR > 1 every row, and those of the basis and of the norm's parameters too, starts on 16
    bytes. IN_PLACE: x is y; a row that no law changes is not written, nor read without a mix.
    """
    dtype: tl.constexpr = y.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < D

    if not IN_PLACE:
        raw = tl.load(pointers(x, row * x_stride, columns, VECTOR), inside, 0.0)
        result = widened(raw)  # the row before its rounding
    if residual is not None:
        other = tl.load(pointers(residual, row * residual_stride, columns, VECTOR), inside, 0.0)
        result = result + widened(other)

    slot = tl.load(token_slot + row * token_slot_stride).to(tl.int64)
    words = record(
        law + slot * law_stride,
        ids + slot * ids_stride,
        weights + slot * weights_stride,
        (slot >= 0) & (slot < slots),
        K,
        WARPS,
    )
    place = tl.arange(0, 32)
    bits = tl.sum(tl.where(place == 0, words, 0), 0)
    steered = slot < slot
    w = ()
    number = ()
    for k in tl.static_range(K):
        number_k = tl.sum(tl.where(place == 1 + k, words, 0), 0)
        w_k = tl.sum(tl.where(place == 1 + K + k, words, 0), 0).to(tl.float32, bitcast=True)
        w_k = tl.where((number_k >= 0) & (number_k < vectors), w_k, 0.0)
        steered = steered | (w_k != 0.0)
        w = w + (w_k,)  # noqa: RUF005
        number = number + (number_k,)  # noqa: RUF005
    if IN_PLACE:
        if not steered:
            return
        raw = tl.load(pointers(x, row * x_stride, columns, VECTOR), inside, 0.0)
        result = widened(raw)
    if NORM != NO_NORM and PREFETCH:
        gain = tl.load(pointers(norm_weight, 0, columns, VECTOR), inside, 0.0)
        if NORM == LAYER_NORM:
            shift = tl.load(pointers(norm_bias, 0, columns, VECTOR), inside, 0.0)

    if steered:
        h = widened(rounded(result, dtype))
        v = tl.zeros((BLOCK,), tl.float32)
        for k in tl.static_range(K):
            if w[k] != 0.0:
                first = number[k].to(tl.int64) * basis_stride
                e = tl.load(pointers(basis, first, columns, VECTOR), inside, 0.0)
                v = v + w[k] * widened(e)
        hh = tl.full((), 1.0, tl.float32)
        tt = tl.full((), 1.0, tl.float32)
        r = tl.full((), 1.0, tl.float32)
        if (bits & (PRESERVE | RELATIVE)) != 0:
            hh = tl.sum(h * h, 0)
        if (bits & RELATIVE) != 0:
            v = tl.sqrt_rn(hh) * v
        t = h + v
        if (bits & PRESERVE) != 0:
            tt = tl.sum(t * t, 0)
            r = tl.div_rn(tl.sqrt_rn(hh), tl.sqrt_rn(tt))
        t = r * t
        steered = in_range(hh) & in_range(tt)
        result = tl.where(steered, t, result)
    stored = rounded(result, dtype)
    if IN_PLACE:
        if not steered:
            return
    elif residual is None:  # what is untouched is not even rounded: that could change a NaN
        stored = tl.where(steered, stored, raw)
    tl.store(pointers(y, row * D, columns, VECTOR), stored, inside)

    if NORM != NO_NORM:
        seen = result if CAST == VLLM else widened(stored)
        # An infinite weight of a mix makes NaN of the padding.
        seen = tl.where(inside, seen, 0.0)
        if NORM == LAYER_NORM:
            # Twice: far from zero the first mean is off by more than the rest of the row allows.
            for _ in tl.static_range(2):
                mean = tl.div_rn(tl.sum(seen, 0), tl.full((), D, tl.float32))
                seen = tl.where(inside, seen - mean, 0.0)
        n = seen * inverse_root_of_mean(tl.sum(seen * seen, 0), eps, D)
        if not PREFETCH:
            gain = tl.load(pointers(norm_weight, 0, columns, VECTOR), inside, 0.0)
            if NORM == LAYER_NORM:
                shift = tl.load(pointers(norm_bias, 0, columns, VECTOR), inside, 0.0)
        gain = widened(gain)
        if NORM == LAYER_NORM:
            n = n * gain + widened(shift)
        elif CAST == GEMMA:
            n = n * (1.0 + gain)
        elif CAST == OLMO:
            n = n * gain
        else:
            n = widened(rounded(n, dtype)) * gain
        tl.store(pointers(normed, row * D, columns, VECTOR), rounded(n, dtype), inside)
