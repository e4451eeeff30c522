"""Where on the circumplex the emotions of a model really lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emokernel.affect.axes import Array, combinations, compact, flat, penalty, placed, span_plane
from emokernel.affect.coordinates import Coordinates
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors


def positions_of(
    vectors: EmotionVectors,
    coordinates: Coordinates,
    layer_weights: Sequence[float] | None = None,
    ridge: float | None = None,
) -> dict[str, tuple[float, float]]:
    """(valence, arousal) of each emotion as the vectors have it.

    Base and axes (`emokernel.affect.axes`) are fitted to all other emotions that have
    coordinates; the position is the least-squares solution of
    ``vector - base = valence * V + arousal * A`` over all layers together. An emotion thus never
    decides where it is found itself. One without coordinates is located by the fit to all that have
    some. One without which the others lie on one line cannot be located and is left out.

    The unit is the table's: one factor for all, which gives the positions of the emotions with
    coordinates the root mean square radius that the table gives them. A position may lie outside
    the circle.

    ``layer_weights`` ``[L]``: as in `EmotionVectors.with_profile`, such as the profile of a
    calibration; otherwise the layers are as they are. ``ridge``: as in `Axes`.

    EmokernelError if the emotions with coordinates are fewer than 3 or all on one line, if their
    vectors are all the same or zero in the weighted layers, or if none can be located.
    """
    if layer_weights is not None:
        vectors = vectors.with_profile(layer_weights)
    known, points = placed(vectors, coordinates)
    unknown = [name for name in vectors.names if name not in known]
    everything = compact(flat(vectors, (*known, *unknown)))
    own, others = everything[: len(known)], everything[len(known) :]
    ridge = penalty(points, own, ridge)
    places = _left_out(points, own, ridge)
    located = np.isfinite(places).all(axis=1)
    if not located.any():
        raise EmokernelError(
            f"no emotion can be located by the others: {', '.join(known)} are the only ones with"
            f" coordinates in the table {coordinates.name!r}; at least 4 are needed"
        )
    fit = combinations(points, ridge) @ own
    located_at = dict(zip(np.array(known)[located], places[located], strict=True))
    located_at |= {name: _locate(fit, vector) for name, vector in zip(unknown, others, strict=True)}
    size = math.sqrt(np.sum(places[located] ** 2))
    unit = math.sqrt(np.sum(points[located] ** 2)) / size if size else 1.0
    order = [name for name in vectors.names if name in located_at]
    return {name: tuple((located_at[name] * unit).tolist()) for name in order}


def _locate(fit: Array, vector: Array) -> Array:
    """Coordinates ``[2]`` at which the plane ``fit`` (base, V, A) comes nearest to ``vector``."""
    base, *axes = fit
    return np.linalg.lstsq(np.transpose(axes), vector - base, rcond=None)[0]


def _left_out(points: Array, vectors: Array, ridge: float) -> Array:
    """``[E, 2]``: where each emotion lies by the fit to all others.

    nan for an emotion without which the others do not span the plane.
    """
    places = np.full(points.shape, np.nan)
    for number, vector in enumerate(vectors):
        others = np.arange(len(points)) != number
        if span_plane(points[others]):
            places[number] = _locate(combinations(points[others], ridge) @ vectors[others], vector)
    return places


@dataclass(frozen=True)
class Agreement:
    """How close positions in a model are to those of a table.

    emotions: how many are compared. cosine: the mean cosine between both directions, -1..1; 0 is
    chance. circular_error: the mean angle between them in degrees; 90 is chance.
    circular_correlation: -1..1, of Fisher and Lee 1983 (Biometrika 70:327-332): 1 if one turn of
    the whole circle brings all angles into line, negative if it has to be mirrored besides.
    """

    emotions: int
    cosine: float
    circular_error: float
    circular_correlation: float


def agreement(
    positions: Mapping[str, tuple[float, float]], coordinates: Coordinates
) -> Agreement | None:
    """How close ``positions`` are to the table; emotions that it lacks do not count.

    None if fewer than 2 emotions lie off the centre in both.
    """
    both = [
        (complex(*positions[name]), complex(point.valence, point.arousal))
        for name in positions
        if (point := coordinates.get(name)) is not None
    ]
    pairs = np.array([pair for pair in both if all(pair)])
    if len(pairs) < 2:
        return None
    model, table = np.angle(pairs).T
    apart = np.angle(np.exp(1j * (model - table)))
    rows, columns = np.triu_indices(len(pairs), 1)
    in_model, in_table = np.sin(model[rows] - model[columns]), np.sin(table[rows] - table[columns])
    norm = math.sqrt(np.sum(in_model**2) * np.sum(in_table**2))
    return Agreement(
        emotions=len(pairs),
        cosine=float(np.cos(apart).mean()),
        circular_error=float(np.degrees(np.abs(apart)).mean()),
        circular_correlation=float(np.sum(in_model * in_table) / norm) if norm else 0.0,
    )
