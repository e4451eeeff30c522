"""The axes: a point of the circumplex by directions of valence and arousal.

The directions are fitted by ridge regression of the vectors on the labels' coordinates
(`emokernel.affect.regression`): what changes in the vectors per unit of valence, and per unit of
arousal. The opposite regression, of the coordinates on the vectors, gives directions that *read*
valence best: they lean away from whatever emotions vary in besides, have the unit 1 / vector, and
with more dimensions than emotions fit any coordinates exactly. Added to a stream they need not move
it the way emotions differ (Haufe et al. 2014, NeuroImage 87:96-110, on patterns and filters).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from emokernel.affect.circular import agreement
from emokernel.affect.circumplex import Affect
from emokernel.affect.coordinates import Coordinates
from emokernel.affect.regression import Array, best_ridge, combinations, compact, left_out
from emokernel.affect.regression_input import check_differ, check_ridge, flat, placed
from emokernel.vectors import EmotionVectors


class Axes:
    """Directions of valence and arousal of a model.

    ``vectors``: their `EmotionVectors`, "valence" and "arousal", per unit of each, so that they
    compare in size with the emotions; the same layers, width and site. ``left_out``: the emotions
    without coordinates, which take no part. ``fit``: how good the fit is, as JSON knows it:

    - "ridge", and the "emotions" and "coordinates" that it was made from, "left_out";
    - "r2": for each layer the share of the emotions' variance that the plane explains (None for a
      layer without vectors); "r2_left_out": the share in all layers when each emotion is predicted
      from its coordinates by the fit to the others, which may be negative;
    - "leave_one_out": the `Agreement` between the table and the places at which the fit to the
      others finds each emotion. The last two are None where no emotion can be left out.
    """

    name = "axes"

    def __init__(
        self, vectors: EmotionVectors, coordinates: Coordinates, ridge: float | None = None
    ) -> None:
        """``ridge``: the penalty on squared directions.

        Unless given it is chosen so that vectors of emotions left out one at a time are predicted
        best. The cosine of the places is no criterion for that: it does not see the directions
        shrink. EmokernelError if the emotions with coordinates are fewer than 3 or all on one line,
        or if their vectors are all the same.
        """
        check_ridge(ridge)
        known, points = placed(vectors, coordinates)
        own = flat(vectors, known)
        check_differ(own, known)
        small = compact(own)
        ridge = best_ridge(points, small) if ridge is None else float(ridge)
        fit = combinations(points, ridge) @ own
        directions = torch.from_numpy(fit[1:].reshape(2, vectors.num_layers, -1))
        self.coordinates = coordinates
        self.left_out = tuple(name for name in vectors.names if name not in known)
        self.fit: dict[str, Any] = {
            "coordinates": coordinates.name,
            "emotions": list(known),
            "left_out": list(self.left_out),
            "ridge": ridge,
            "r2": _explained(fit, points, own, vectors.num_layers),
            **_held_out(known, points, small, ridge, coordinates),
        }
        self.vectors = EmotionVectors(
            ("valence", "arousal"),
            directions.transpose(0, 1),
            vectors.site,
            {**vectors.provenance, "axes": self.fit},
        )

    def mix(self, affect: Affect) -> dict[str, float]:
        """Weights of "valence" and "arousal": the coordinates themselves, without those of 0."""
        weights = {"valence": affect.valence, "arousal": affect.arousal}
        return {name: weight for name, weight in weights.items() if weight}


def _explained(fit: Array, points: Array, own: Array, num_layers: int) -> list[float | None]:
    """R^2 of each layer; None where the emotions do not differ."""

    def squares(rows: Array) -> Array:
        return np.sum(rows.reshape(len(rows), num_layers, -1) ** 2, axis=(0, 2))

    unexplained = squares(own - fit[0] - points @ fit[1:])
    return [
        float(1 - left / all_of_it) if all_of_it else None
        for left, all_of_it in zip(unexplained, squares(own - own.mean(axis=0)), strict=True)
    ]


def _held_out(
    names: tuple[str, ...], points: Array, own: Array, ridge: float, coordinates: Coordinates
) -> dict[str, Any]:
    places, errors = left_out(points, own, ridge)
    located = np.isfinite(errors)
    if not located.any():
        return {"r2_left_out": None, "leave_one_out": None}
    # The mean of the others is n / (n - 1) times as far from an emotion as the mean of all.
    apart = (own - own.mean(axis=0)) * len(own) / (len(own) - 1)
    positions = dict(zip(np.array(names)[located], places[located], strict=True))
    close = agreement(positions, coordinates)
    return {
        "r2_left_out": float(1 - np.sum(errors[located]) / np.sum(apart[located] ** 2)),
        "leave_one_out": asdict(close) if close else None,
    }
