"""The emotion vectors of the embedded model."""

from __future__ import annotations

from pathlib import Path

from emokernel.vectors import EmotionVectors

VECTORS_PATH = Path(__file__).parent / "assets" / "vectors.safetensors"


def load_vectors() -> EmotionVectors:
    """The shipped vectors; their provenance holds ``recommended_strengths``, one per emotion."""
    return EmotionVectors.load(VECTORS_PATH)
