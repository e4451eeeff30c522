"""Vectors whose emotions lie where a table says, by construction."""

from __future__ import annotations

import torch

from emokernel.affect import Coordinates
from emokernel.vectors import EmotionVectors

LAYERS, WIDTH = 3, 40
NAMES = ("joy", "excitement", "surprise", "anger", "disgust", "sadness", "relief", "gratitude")
RUSSELL = Coordinates.named("russell")


def planted(
    coordinates: Coordinates = RUSSELL,
    names: tuple[str, ...] = NAMES,
    noise: float = 0.0,
    seed: int = 0,
) -> tuple[EmotionVectors, torch.Tensor]:
    """(``base + valence * V + arousal * A + noise`` at site "attention", V and A ``[L, 2, d]``)."""
    generator = torch.Generator().manual_seed(seed)
    base, *axes = torch.randn(3, LAYERS, WIDTH, generator=generator)
    tensors = {}
    for name in names:
        point = coordinates.get(name)
        own = noise * torch.randn(LAYERS, WIDTH, generator=generator)
        if point is None:
            tensors[name] = base + own
        else:
            tensors[name] = base + point.valence * axes[0] + point.arousal * axes[1] + own
    vectors = EmotionVectors.from_tensors(tensors, site="attention", provenance={"model": "toy"})
    return vectors, torch.stack(axes, dim=1)


def of_table(table: Coordinates, names) -> dict[str, tuple[float, float]]:
    """{name: (valence, arousal)} of a table."""
    return {name: (table[name].valence, table[name].arousal) for name in names}
