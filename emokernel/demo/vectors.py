"""The emotion vectors of the embedded model."""

from __future__ import annotations

from pathlib import Path

from emokernel.vectors import EmotionVectors

VECTORS_PATH = Path(__file__).parent / "assets" / "vectors.safetensors"


def load_vectors() -> EmotionVectors:
    """The shipped vectors, calibrated: strength 1.0 is the strongest that leaves text fluent."""
    return EmotionVectors.load(VECTORS_PATH)
