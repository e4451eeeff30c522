"""Intervals of means over grouped observations, and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emokernel.extras import need

_DRAWS = 2000


def mean_interval(values: Sequence[float], groups: Sequence[object]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its 95 % percentile bootstrap interval over whole groups.

    Observations of one group (one opening under several seeds) are drawn together, since they are
    not independent. Deterministic. ValueError without observations.
    """
    return ratio_interval(values, [1.0] * len(values), groups)


def ratio_interval(
    values: Sequence[float], others: Sequence[float], groups: Sequence[object]
) -> tuple[float, float, float]:
    """(ratio, low, high) of the mean of ``values`` to that of ``others``, observations side by
    side, by the bootstrap of `mean_interval`. NaN where the others' mean is not above 0.
    ValueError without observations.
    """
    if not len(values) or not len(values) == len(others) == len(groups):
        counts = f"{len(values)} and {len(others)} values"
        raise ValueError(f"{counts} and {len(groups)} groups: need as many, and some")
    _, numbers = np.unique([str(group) for group in groups], return_inverse=True)
    above, below = (np.bincount(numbers, weights=np.asarray(of, float)) for of in (values, others))
    drawn = np.random.default_rng(0).integers(len(above), size=(_DRAWS, len(above)))
    if below.sum() <= 0:
        return math.nan, math.nan, math.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # where a draw has no mean
        ratios = above[drawn].sum(1) / below[drawn].sum(1)
        return float(above.sum() / below.sum()), *percentiles(ratios)


def percentiles(draws: Sequence[float]) -> tuple[float, float]:
    """(low, high): what the middle 95 % of the draws lies between."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, -1..1; 0 if either has the same value everywhere.

    A constant has no ranks, so the correlation is not defined: a strength that changes nothing does
    not count as monotone. ValueError for fewer than two pairs.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{len(first)} and {len(second)} values: need as many, and two or more")
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return float(need("scipy.stats").spearmanr(first, second).statistic)
