"""The emotion vectors that ship: those of the embedded model, and where those of smollm2 lie."""

from __future__ import annotations

from pathlib import Path

from emokernel.vectors import EmotionVectors

VECTORS_PATH = Path(__file__).parent / "assets" / "vectors.safetensors"
SMOLLM2_PATH = VECTORS_PATH.with_name("smollm2.safetensors")


def load_vectors() -> EmotionVectors:
    """Those of the embedded model; strength 1.0 is the strongest that leaves its text fluent."""
    return EmotionVectors.load(VECTORS_PATH)
