"""Where on the circumplex a classifier places texts, and how close that is to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emokernel.affect import Affect, Coordinates


def affect_of(
    probabilities: Tensor, labels: Sequence[str], coordinates: Coordinates | None = None
) -> Tensor:
    """(valence, arousal) ``[n, 2]`` of texts whose label probabilities are ``[n, labels]``.

    The mean of the labels' points in the table, "russell" unless given, weighted by their
    probabilities; a label that it lacks (in "russell" neutral, confusion and realization) counts as
    the centre.
    """
    table = Coordinates.named("russell") if coordinates is None else coordinates
    places = [table.get(label) or Affect(0.0, 0.0) for label in labels]
    points = torch.tensor([(place.valence, place.arousal) for place in places])
    return probabilities @ points


def cosine(point: Tensor, target: Affect) -> float:
    """Cosine between (valence, arousal) and a target, -1..1; 0 if either is the centre."""
    lengths = math.hypot(*point.tolist()) * target.radius
    product = point[0].item() * target.valence + point[1].item() * target.arousal
    return product / lengths if lengths else 0.0
