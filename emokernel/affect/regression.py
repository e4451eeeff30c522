"""The linear model behind the axes: emotion vectors as functions of their coordinates.

    E_e = base + valence_e * V + arousal_e * A + what is the emotion's own

``E_e`` are the vectors of an emotion in all layers, side by side. base, V and A minimise

    sum_e |E_e - base - valence_e V - arousal_e A|^2 + ridge * (|V|^2 + |A|^2)

The number of emotions is small and the solution linear in the vectors, so everything is computed
from combinations of emotions ``[3, E]``: (base, V, A) = combinations @ vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# What the ridge penalty is chosen from; in units of squared coordinates, summed over emotions.
RIDGES = tuple(float(penalty) for penalty in np.logspace(-6, 3, 37))


def spans_plane(points: Array) -> bool:
    """Whether ``points`` ``[E, 2]`` tell valence from arousal: neither too few nor collinear."""
    return len(points) > 2 and np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) == 2


def _centred(points: Array, ridge: float) -> tuple[Array, Array]:
    """(``points`` ``[E, 2]`` less their mean, what V and A take of each emotion ``[2, E]``)."""
    apart = points - points.mean(axis=0)
    return apart, np.linalg.solve(apart.T @ apart + ridge * np.eye(2), apart.T)


def combinations(points: Array, ridge: float) -> Array:
    """``[3, E]``: what base, V and A take of each of the emotions at ``points`` ``[E, 2]``."""
    _, axes = _centred(points, ridge)
    # Directions do not see the base: what each takes of the emotions sums to zero.
    return np.vstack([1 / len(points) - points.mean(axis=0) @ axes, axes])


def compact(vectors: Array) -> Array:
    """``[E, <= E]``: ``vectors`` ``[E, n]`` turned into as few dimensions as keep all products."""
    return np.linalg.qr(vectors.T, mode="r").T


def best_ridge(points: Array, vectors: Array) -> float:
    """That of `RIDGES` with the smallest squared error of vectors left out one at a time.

    The first of equals. That error is the residual over one less the share of a vector in its own
    prediction, which is exact: nothing is fitted anew.
    """

    def error(ridge: float) -> float:
        apart, axes = _centred(points, ridge)
        shares = apart @ axes + 1 / len(points)
        left = (vectors - shares @ vectors) / (1 - np.diag(shares))[:, None]
        return float(np.sum(left**2))

    return min(RIDGES, key=error)


def locate(fit: Array, vector: Array) -> Array:
    """Coordinates ``[2]`` at which the plane ``fit`` (base, V, A) comes nearest to ``vector``."""
    base, *axes = fit
    return np.linalg.lstsq(np.transpose(axes), vector - base, rcond=None)[0]


def left_out(points: Array, vectors: Array, ridge: float) -> tuple[Array, Array]:
    """For each emotion, from the fit to all others: (where it lies ``[E, 2]``, squared error [E]).

    The error is that of the vector predicted from its coordinates. Both are nan for an emotion
    without which the others do not span the plane.
    """
    places, errors = np.full(points.shape, np.nan), np.full(len(points), np.nan)
    for number, vector in enumerate(vectors):
        others = np.arange(len(points)) != number
        if spans_plane(points[others]):
            fit = combinations(points[others], ridge) @ vectors[others]
            places[number] = locate(fit, vector)
            errors[number] = np.sum((vector - fit[0] - points[number] @ fit[1:]) ** 2)
    return places, errors
