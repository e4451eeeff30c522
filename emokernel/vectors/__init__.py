"""Emotion vectors: what they are, their algebra and calibration, and the files they come in."""

from emokernel.moved import renamed
from emokernel.vectors.emotion_vectors import EmotionVectors

__all__ = ["EmotionVectors"]

__getattr__ = renamed(__name__)
