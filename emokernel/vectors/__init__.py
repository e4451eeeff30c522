"""Emotion vectors: what they are, their algebra and calibration, and the files they come in."""

from emokernel.vectors.emotion_vectors import EmotionVectors

__all__ = ["EmotionVectors"]
