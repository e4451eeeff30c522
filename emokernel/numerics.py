"""Distances between floating-point numbers, counted in representable values."""

from __future__ import annotations

import torch
from torch import Tensor

# How far a fused RMSNorm may be from a module, in ulp: the order of its reduction differs.
MAX_RMS_NORM_ULP = {torch.float32: 8, torch.bfloat16: 2, torch.float16: 2}

_INTEGER = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def ulp_distance(a: Tensor, b: Tensor) -> Tensor:
    """How many steps of their dtype lie between two tensors, elementwise, int64.

    Both fp32, bf16 or fp16 and of one dtype; +0 and -0 are at distance 0, a NaN at distance 0 from
    any NaN and far from everything else.
    """
    if a.dtype != b.dtype or a.dtype not in _INTEGER:
        raise TypeError(f"ulp_distance needs one of {list(_INTEGER)} twice: {a.dtype}, {b.dtype}")
    integer = _INTEGER[a.dtype]
    lowest = torch.iinfo(integer).min

    def rank(x: Tensor) -> Tensor:
        bits = x.contiguous().view(integer).long()
        return torch.where(bits < 0, lowest - bits, bits)

    both_nan = a.isnan() & b.isnan()
    return torch.where(both_nan, 0, (rank(a) - rank(b)).abs())
