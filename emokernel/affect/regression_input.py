"""The emotions of a model that have coordinates, as arrays for the regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emokernel.affect.coordinates import Coordinates
from emokernel.affect.regression import Array, spans_plane
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors


def placed(vectors: EmotionVectors, coordinates: Coordinates) -> tuple[tuple[str, ...], Array]:
    """(The emotions that have coordinates, their points ``[E, 2]``).

    EmokernelError if there are fewer than 3 of them, or all lie on one line.
    """
    known, unknown = coordinates.covering(vectors.names)
    points = np.array([(coordinates[n].valence, coordinates[n].arousal) for n in known])
    if not spans_plane(points):
        why = "lie on one line" if len(known) > 2 else "are fewer than 3"
        raise EmokernelError(
            f"valence cannot be told from arousal: the emotions with coordinates in the table"
            f" {coordinates.name!r} ({', '.join(known) or 'none'}) {why}; add emotions, or"
            f" coordinates for {', '.join(unknown) or 'more of them'}"
        )
    return known, points


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


def check_differ(own: Array, names: Sequence[str]) -> None:
    """EmokernelError if the vectors ``[names, n]`` are all the same: they have no axes."""
    if not np.any(own - own[0]):
        raise EmokernelError(
            f"the vectors of {', '.join(names)} are all the same: no direction of valence or"
            " arousal can be fitted to them"
        )


def check_ridge(ridge: float | None) -> None:
    """EmokernelError for a ridge penalty that is neither None nor a finite number >= 0."""
    if ridge is not None and not (math.isfinite(ridge) and ridge >= 0):
        raise EmokernelError(f"ridge must be a finite number >= 0, or None to choose it: {ridge!r}")
