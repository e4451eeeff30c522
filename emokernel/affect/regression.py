"""The linear model behind the axes: emotion vectors as functions of their coordinates.

    E_e = base + valence_e * V + arousal_e * A + what is the emotion's own

``E_e`` are the vectors of an emotion in all layers, side by side. base, V and A minimise

    sum_e |E_e - base - valence_e V - arousal_e A|^2 + ridge * (|V|^2 + |A|^2)

V and A are what changes in the vectors per unit of valence and of arousal. The opposite regression,
of the coordinates on the vectors, gives directions that *read* valence best: they lean away from
whatever emotions vary in besides, have the unit 1 / vector, and with more dimensions than emotions
fit any coordinates exactly. Added to a stream they need not move it the way emotions differ (Haufe
et al. 2014, NeuroImage 87:96-110, on patterns and filters).

The number of emotions is small and the solution linear in the vectors, so everything is computed
from combinations of emotions ``[3, E]``: (base, V, A) = combinations @ vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emokernel.affect.coordinates import Coordinates
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

Array = NDArray[np.float64]

# What the ridge penalty is chosen from; in units of squared coordinates, summed over emotions.
RIDGES = tuple(float(penalty) for penalty in np.logspace(-6, 3, 37))


def placed(vectors: EmotionVectors, coordinates: Coordinates) -> tuple[tuple[str, ...], Array]:
    """(The emotions that have coordinates, their points ``[E, 2]``).

    EmokernelError if there are fewer than 3 of them, or all lie on one line.
    """
    known = tuple(name for name in vectors.names if name in coordinates)
    points = np.array([(coordinates[n].valence, coordinates[n].arousal) for n in known])
    if not _span_plane(points):
        unknown = [name for name in vectors.names if name not in known]
        why = "lie on one line" if len(known) > 2 else "are fewer than 3"
        raise EmokernelError(
            f"valence cannot be told from arousal: the emotions with coordinates in the table"
            f" {coordinates.name!r} ({', '.join(known) or 'none'}) {why}; add emotions, or"
            f" coordinates for {', '.join(unknown) or 'more of them'}"
        )
    return known, points


def _span_plane(points: Array) -> bool:
    return len(points) > 2 and np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) == 2


def flat(
    vectors: EmotionVectors, names: Sequence[str], layer_weights: Sequence[float] | None = None
) -> Array:
    """The vectors of all layers side by side, ``[names, L * d]``, layers times their weights."""
    chosen = vectors.select(names).tensor.double().numpy()
    if layer_weights is not None:
        weights = np.asarray(layer_weights, dtype=float)
        if weights.shape != chosen.shape[:1] or not np.isfinite(weights).all():
            raise EmokernelError(
                f"layer_weights must be {len(chosen)} finite numbers, one per layer, got"
                f" {list(layer_weights)}"
            )
        chosen = chosen * weights[:, None, None]
    return np.moveaxis(chosen, 1, 0).reshape(len(names), -1)


def compact(vectors: Array) -> Array:
    """``[E, <= E]``: ``vectors`` ``[E, n]`` turned into as few dimensions as keep all products."""
    return np.transpose(np.linalg.qr(vectors.T, mode="r"))


def _centred(points: Array, ridge: float) -> tuple[Array, Array]:
    """(``points`` ``[E, 2]`` less their mean, what V and A take of each emotion ``[2, E]``)."""
    apart = points - points.mean(axis=0)
    return apart, np.linalg.solve(apart.T @ apart + ridge * np.eye(2), apart.T)


def combinations(points: Array, ridge: float) -> Array:
    """``[3, E]``: what base, V and A take of each of the emotions at ``points`` ``[E, 2]``."""
    _, axes = _centred(points, ridge)
    # Directions do not see the base: what each takes of the emotions sums to zero.
    return np.vstack([1 / len(points) - points.mean(axis=0) @ axes, axes])


def penalty(points: Array, vectors: Array, ridge: float | None = None) -> float:
    """``ridge``, or that of `RIDGES` with which vectors left out one at a time are predicted best.

    The first of equals, by squared error: the residual over one less the share of a vector in its
    own prediction, which is exact, so that nothing is fitted anew. The cosine of the places is no
    criterion: it does not see the directions shrink.

    EmokernelError for a ``ridge`` that is no finite number >= 0, or vectors ``[E, n]`` that are
    all the same.
    """
    if not np.any(vectors - vectors[0]):
        raise EmokernelError(
            "the vectors of all emotions with coordinates are all the same: no direction of valence"
            " or arousal can be fitted to them"
        )
    if ridge is not None:
        if not (math.isfinite(ridge) and ridge >= 0):
            raise EmokernelError(
                f"ridge must be a finite number >= 0, or None to choose it: {ridge!r}"
            )
        return float(ridge)
    small = compact(vectors)

    def error(candidate: float) -> float:
        apart, axes = _centred(points, candidate)
        shares = apart @ axes + 1 / len(points)
        left = (small - shares @ small) / (1 - np.diag(shares))[:, None]
        return float(np.sum(left**2))

    return min(RIDGES, key=error)


def locate(fit: Array, vector: Array) -> Array:
    """Coordinates ``[2]`` at which the plane ``fit`` (base, V, A) comes nearest to ``vector``."""
    base, *axes = fit
    return np.linalg.lstsq(np.transpose(axes), vector - base, rcond=None)[0]


def left_out(points: Array, vectors: Array, ridge: float) -> Array:
    """``[E, 2]``: where each emotion lies by the fit to all others.

    nan for an emotion without which the others do not span the plane.
    """
    places = np.full(points.shape, np.nan)
    for number, vector in enumerate(vectors):
        others = np.arange(len(points)) != number
        if _span_plane(points[others]):
            places[number] = locate(combinations(points[others], ridge) @ vectors[others], vector)
    return places
