"""The axes: a point of the circumplex by directions of valence and arousal."""

from __future__ import annotations

import torch

from emokernel.affect.circumplex import Affect
from emokernel.affect.coordinates import Coordinates
from emokernel.affect.regression import combinations, flat, penalty, placed
from emokernel.vectors import EmotionVectors


class Axes:
    """Directions of valence and arousal of a model, fitted as `emokernel.affect.regression` says.

    ``vectors``: their `EmotionVectors`, "valence" and "arousal", per unit of each, so that they
    compare in size with the emotions; the same layers, width and site. ``ridge``: the penalty.
    ``left_out``: the emotions without coordinates, which take no part.
    """

    name = "axes"

    def __init__(
        self, vectors: EmotionVectors, coordinates: Coordinates, ridge: float | None = None
    ) -> None:
        """``ridge``: the penalty on squared directions; `regression.penalty` chooses it otherwise.

        EmokernelError if the emotions with coordinates are fewer than 3 or all on one line, or if
        their vectors are all the same.
        """
        known, points = placed(vectors, coordinates)
        own = flat(vectors, known)
        self.ridge = penalty(points, own, ridge)
        self.coordinates = coordinates
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
