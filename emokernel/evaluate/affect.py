"""Where on the circumplex a classifier places texts, and how close that is to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emokernel.affect import Affect, angle_of


def affect_of(probabilities: Tensor, labels: Sequence[str]) -> Tensor:
    """(valence, arousal) ``[n, 2]`` of texts whose label probabilities are ``[n, labels]``.

    The mean of the labels' unit vectors on Russell's circle, weighted by their probabilities; a
    label without an angle (neutral, confusion, realization) counts as the centre.
    """
    angles = [angle_of(label) for label in labels]
    points = torch.tensor(
        [
            (0.0, 0.0)
            if angle is None
            else (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
            for angle in angles
        ]
    )
    return probabilities @ points


def cosine(point: Tensor, target: Affect) -> float:
    """Cosine between (valence, arousal) and a target, -1..1; 0 if either is the centre."""
    lengths = math.hypot(*point.tolist()) * target.radius
    product = point[0].item() * target.valence + point[1].item() * target.arousal
    return product / lengths if lengths else 0.0
