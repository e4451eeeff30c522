"""What a formula does to rows at the edge, and to rows that ask for nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from emokernel.bench.numerics.formula import BY_ROW, Formula, Given, truth

_WIDTH = 4096
_WEIGHT = 0.5
_SHARE = 0.1  # of norms and angles
# A row of -0 that becomes +0 has other bits and equal values.
ZERO_SIGN = "-0"


def _vector(dtype: torch.dtype) -> Tensor:
    """``[d]`` fp32 of norm 8, that the dtype holds as it is."""
    e = torch.randn(_WIDTH, generator=torch.Generator().manual_seed(3))
    return (8 * e / e.norm()).to(dtype).float()


def _long_rows(dtype: torch.dtype) -> tuple[str, float]:
    """Finite elements whose norm (fp16) or sum of squares (the others) is out of range."""
    return ("1100 everywhere", 1100.0) if dtype is torch.float16 else ("1e25 everywhere", 1e25)


def _edges(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (row ``[1, d]``, vector ``[d]`` fp32)}, all finite."""
    e = _vector(dtype)
    name, value = _long_rows(dtype)
    largest = torch.finfo(dtype).max
    peak, bump = torch.zeros(_WIDTH, dtype=dtype), e.clone()
    peak[0], bump[0] = largest, largest / 32
    rows = {
        "zero": (torch.zeros(_WIDTH, dtype=dtype), e),
        "cancelled": ((-_WEIGHT * e).to(dtype), e),
        name: (torch.full((_WIDTH,), value, dtype=dtype), e),
        "largest element": (peak, bump),
    }
    if dtype is not torch.float16:
        rows["1e-30 everywhere"] = (torch.full((_WIDTH,), 1e-30, dtype=dtype), e)
    return {each: (row[None], vector) for each, (row, vector) in rows.items()}


def not_finite(formula: Formula, dtype: torch.dtype) -> dict[str, str]:
    """{kind of finite row: what came of it} where it is not finite although the law's row is.

    A row for which the law means nothing, a cancelled or a zero one, is to be finite as well. What
    raises an error is told by its name.
    """
    weight = _SHARE if formula.law in BY_ROW else _WEIGHT
    found = {}
    for name, (row, vector) in _edges(dtype).items():
        wanted = truth(formula.law, row.double(), vector, weight)
        if wanted.to(dtype).isinf().any():
            continue  # it does overflow
        try:
            # The branch's own output is nothing: the stream is the row, exactly.
            y = formula.apply(Given(torch.zeros_like(row), row, vector, weight))
        except (ValueError, ArithmeticError) as error:
            found[name] = type(error).__name__
            continue
        if not y.isfinite().all():
            found[name] = "NaN" if y.isnan().any() else "inf"
    return found


def changed_rows(formula: Formula, dtype: torch.dtype) -> list[str] | None:
    """Which kinds of rows that ask for nothing lose bits beside one that is steered.

    None: the formula cannot leave a row alone. Whether it takes several rows of a batch that are
    steered differently is another question.
    """
    if not formula.masks:
        return None
    name, value = _long_rows(dtype)
    ordinary = torch.randn(17, _WIDTH, generator=torch.Generator().manual_seed(4)).to(dtype)
    infinite = ordinary[1].clone()
    infinite[5] = float("inf")
    kinds = ["ordinary"] * 16 + [ZERO_SIGN, "zero", name, "one inf"]
    of_one = [torch.full((_WIDTH,), each, dtype=dtype) for each in (-0.0, 0.0, value)]
    halves = torch.stack([*ordinary, *of_one, infinite]) / 2  # which add up exactly
    on = torch.zeros(len(halves), dtype=torch.bool)
    on[0] = True
    weight = _SHARE if formula.law in BY_ROW else _WEIGHT
    try:
        y = formula.apply(Given(halves, halves, _vector(dtype), weight, on))
    except ValueError:  # the row with an inf is no finite one: without it
        y = formula.apply(Given(halves[:-1], halves[:-1], _vector(dtype), weight, on[:-1]))
    bits = torch.int32 if dtype is torch.float32 else torch.int16
    same = (y[1:].contiguous().view(bits) == (halves + halves)[1 : len(y)].view(bits)).all(-1)
    changed = [kind for kind, kept in zip(kinds, same.tolist(), strict=False) if not kept]
    return list(dict.fromkeys(changed))
