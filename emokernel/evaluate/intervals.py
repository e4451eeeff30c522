"""Intervals of means over grouped observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_interval(
    values: Sequence[float], groups: Sequence[object], *, level: float = 0.95, draws: int = 2000
) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its percentile bootstrap interval over whole groups.

    Observations of one group (one opening under several seeds) are drawn together, since they are
    not independent. Deterministic. ValueError without observations.
    """
    if not len(values) or len(values) != len(groups):
        raise ValueError(f"{len(values)} values and {len(groups)} groups: need as many, and some")
    _, numbers = np.unique([str(group) for group in groups], return_inverse=True)
    sums = np.bincount(numbers, weights=np.asarray(values, dtype=float))
    counts = np.bincount(numbers)
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(np.mean(values)), float(low), float(high)
