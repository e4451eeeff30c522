"""Streaming mean and covariance: one pass over chunks, fp64, memory of one ``[d, d]`` at most."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from emokernel.extras import need


class Moments:
    """Weighted mean ``[d]`` and scatter ``[d, d]`` of rows that come in chunks.

    Chunks are merged by the pairwise formula of Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979), with weights in the place of counts:
    nothing is lost where the mean is large against the spread. ``scatter`` is the sum of
    w (x - mean)(x - mean)^T, so the covariance is scatter / weight; it is kept only if asked for.
    """

    def __init__(self, width: int, *, scatter: bool = False) -> None:
        self.weight = 0.0
        self.mean = np.zeros(width)
        self.scatter = np.zeros((width, width)) if scatter else None

    @classmethod
    def of(
        cls, chunks: Iterable[tuple[np.ndarray, np.ndarray]], width: int, *, scatter: bool = False
    ) -> Moments:
        """The moments of all ``chunks`` of (rows ``[n, d]``, weights ``[n]``)."""
        moments = cls(width, scatter=scatter)
        for rows, weights in chunks:
            moments.add(rows, weights)
        return moments

    def add(self, rows: np.ndarray, weights: np.ndarray) -> None:
        """Take in ``rows [n, d]`` with positive ``weights [n]``."""
        weights = weights.astype(np.float64)
        weight = weights.sum()
        mean = weights @ rows / weight
        step = mean - self.mean
        together = self.weight + weight
        if self.scatter is not None:
            spread = (rows - mean) * np.sqrt(weights)[:, None]
            self.scatter += spread.T @ spread
            self.scatter += np.outer(step, step) * (self.weight * weight / together)
        self.mean = self.mean + step * (weight / together)
        self.weight = together


def principal_axes(
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
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
    moments = Moments.of(chunks, width, scatter=True)
    scatter = moments.scatter
    if not centred:
        scatter += moments.weight * np.outer(moments.mean, moments.mean)
    wanted = [max(0, width - (most or width)), width - 1]
    energies, axes = need("scipy.linalg").eigh(scatter, subset_by_index=wanted, overwrite_a=True)
    return energies[::-1].clip(0), axes.T[::-1]
