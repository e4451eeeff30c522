"""Streaming mean and covariance: one pass over chunks, fp64, memory of one ``[d, d]`` at most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from emokernel.extras import need

# Rows [n, d] and their positive weights [n].
Chunk = tuple[np.ndarray, np.ndarray]


class Moments(NamedTuple):
    """Summed weight, weighted mean ``[d]`` and scatter ``[d, d]`` of rows.

    ``scatter`` is the sum of w (x - mean)(x - mean)^T, so the covariance is scatter / weight.
    """

    weight: float
    mean: np.ndarray
    scatter: np.ndarray


def moments(chunks: Iterable[Chunk], width: int, *, scatter: bool = False) -> Moments:
    """The moments of all ``chunks``; the scatter is zero unless asked for.

    Chunks are merged by the pairwise formula of Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979), with weights in the place of counts:
    nothing is lost where the mean is large against the spread.
    """
    total, mean = 0.0, np.zeros(width)
    spread = np.zeros((width, width) if scatter else 0)
    for rows, weights in chunks:
        weights = weights.astype(np.float64)
        weight = weights.sum()
        own = weights @ rows / weight
        step, together = own - mean, total + weight
        if scatter:
            spread += _scatter(rows - own, weights)
            spread += np.outer(step, step) * (total * weight / together)
        mean = mean + step * (weight / together)
        total = together
    return Moments(total, mean, spread)


def _scatter(centred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    centred *= np.sqrt(weights)[:, None]
    return centred.T @ centred


def principal_axes(
    chunks: Iterable[Chunk],
    count: int,
    width: int,
    *,
    centred: bool,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes ``[k, d]`` of ``count`` rows, the widest first, and the energies ``[k]``.

    The energy along an axis a is the sum of w <x, a>^2, of rows about their mean if ``centred``,
    about zero if not. ``most``: how many axes are wanted, all if None. Rows that are no more than
    ``width`` are held at once, which takes no more than the matrix ``[d, d]`` of the others.
    """
    if count <= width:
        rows, weights = (np.concatenate(each) for each in zip(*chunks, strict=True))
        if centred:
            rows -= weights @ rows / weights.sum()
        rows *= np.sqrt(weights)[:, None]
        _, singular, axes = np.linalg.svd(rows, full_matrices=False)
        return np.square(singular)[:most], axes[:most]
    weight, mean, scatter = moments(chunks, width, scatter=True)
    if not centred:
        scatter += weight * np.outer(mean, mean)
    wanted = [max(0, width - (most or width)), width - 1]
    energies, axes = need("scipy.linalg").eigh(scatter, subset_by_index=wanted, overwrite_a=True)
    return energies[::-1].clip(0), axes.T[::-1]
