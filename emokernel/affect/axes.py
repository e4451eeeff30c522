"""The axes: a point of the circumplex by directions of valence and arousal.

They come from a linear model of emotion vectors as functions of their coordinates:

    E_e = base + valence_e * V + arousal_e * A + what is the emotion's own

``E_e`` are the vectors of an emotion in all layers, side by side. base, V and A minimise

    sum_e |E_e - base - valence_e V - arousal_e A|^2 + ridge * (|V|^2 + |A|^2)

docs/circumplex.md says why the vectors are regressed on the coordinates and not the other way
round. The number of emotions is small and the solution linear in the vectors, so everything is
computed from combinations of emotions ``[3, E]``: (base, V, A) = combinations @ vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from emokernel.affect.circumplex import Affect
from emokernel.affect.coordinates import Coordinates
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

Array = NDArray[np.float64]

# What the ridge penalty is chosen from; in units of squared coordinates, summed over emotions.
RIDGES = tuple(float(penalty) for penalty in np.logspace(-6, 3, 37))


class Axes:
    """Directions of valence and arousal of a model.

    ``vectors``: their `EmotionVectors`, "valence" and "arousal", per unit of each, so that they
    compare in size with the emotions; the same layers, width and site. ``ridge``: the penalty.
    ``left_out``: the emotions without coordinates, which take no part.
    """

    def __init__(
        self, vectors: EmotionVectors, coordinates: Coordinates, ridge: float | None = None
    ) -> None:
        """``ridge``: the penalty on squared directions; `penalty` chooses it otherwise.

        EmokernelError if the emotions with coordinates are fewer than 3 or all on one line, or if
        their vectors are all the same.
        """
        known, points = placed(vectors, coordinates)
        own = flat(vectors, known)
        self.ridge = penalty(points, own, ridge)
        self.left_out = tuple(name for name in vectors.names if name not in known)
        directions = combinations(points, self.ridge)[1:] @ own
        self.vectors = EmotionVectors(
            ("valence", "arousal"),
            torch.from_numpy(directions.reshape(2, vectors.num_layers, -1)).transpose(0, 1),
            vectors.site,
            {**vectors.provenance, "axes": {"coordinates": coordinates.name, "ridge": self.ridge}},
        )

    def mix(self, affect: Affect) -> dict[str, float]:
        """Weights of "valence" and "arousal": the coordinates themselves, without those of 0."""
        weights = {"valence": affect.valence, "arousal": affect.arousal}
        return {name: weight for name, weight in weights.items() if weight}


def placed(vectors: EmotionVectors, coordinates: Coordinates) -> tuple[tuple[str, ...], Array]:
    """(The emotions that have coordinates, their points ``[E, 2]``).

    EmokernelError if there are fewer than 3 of them, or all lie on one line.
    """
    known = tuple(name for name in vectors.names if name in coordinates)
    points = np.array([(coordinates[n].valence, coordinates[n].arousal) for n in known])
    if not span_plane(points):
        unknown = [name for name in vectors.names if name not in known]
        why = "lie on one line" if len(known) > 2 else "are fewer than 3"
        raise EmokernelError(
            f"valence cannot be told from arousal: the emotions with coordinates in the table"
            f" {coordinates.name!r} ({', '.join(known) or 'none'}) {why}; add emotions, or"
            f" coordinates for {', '.join(unknown) or 'more of them'}"
        )
    return known, points


def span_plane(points: Array) -> bool:
    """Whether ``points`` ``[E, 2]`` do not all lie on one line."""
    return len(points) > 2 and np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) == 2


def flat(vectors: EmotionVectors, names: Sequence[str]) -> Array:
    """The vectors of all layers side by side, ``[names, L * d]``."""
    return vectors.select(names).tensor.double().transpose(0, 1).reshape(len(names), -1).numpy()


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
