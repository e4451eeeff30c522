"""What emokernel does to logits, and how far something else is from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import emokernel
from emokernel import EmotionVectors


def logits(
    model: Any,
    prompts: Sequence[Sequence[int]],
    vectors: EmotionVectors | None = None,
    mix: dict[str, float] | None = None,
    law: str = "add",
) -> np.ndarray:
    """``[prompts, vocabulary]`` of the last token of each, steered by ``mix`` of ``vectors``."""
    ids = torch.tensor(prompts)
    with torch.no_grad():
        if vectors is None:
            return model(ids).logits[:, -1].numpy()
        steering = emokernel.patch(model, vectors, site="block", law=law, dose="absolute")
        try:
            steering.set(mix)
            return model(ids).logits[:, -1].numpy()
        finally:
            steering.unpatch()


def moved(vectors: EmotionVectors, by: int) -> EmotionVectors:
    """Every vector ``by`` layers later; what leaves the model is lost."""
    tensor = torch.zeros_like(vectors.tensor)
    for layer in vectors.layers:
        if 0 <= layer + by < vectors.num_layers:
            tensor[layer + by] = vectors.tensor[layer]
    return EmotionVectors(vectors.names, tensor, vectors.site)


@dataclass(frozen=True)
class Agreement:
    """Of two shifts of logits ``[prompts, vocabulary]``: the worst prompt of each.

    error: |theirs - ours| / |ours|; cosine: the smallest; ratio: of lengths, smallest and largest.
    """

    error: float
    cosine: float
    ratio: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.ratio
        return f"error {self.error:.1e}, cosine {self.cosine:.6f}, length {low:.4f} to {high:.4f}"


def agreement(theirs: np.ndarray, ours: np.ndarray) -> Agreement:
    """How well two shifts agree."""
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    long, short = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    ratios = long / short
    return Agreement(
        float((np.linalg.norm(a - b, axis=-1) / short).max()),
        float(((a * b).sum(-1) / (long * short)).min()),
        (float(ratios.min()), float(ratios.max())),
    )
