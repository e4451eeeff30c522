"""How well the directions of two sets of places on the circumplex agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emokernel.affect.coordinates import Coordinates


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
