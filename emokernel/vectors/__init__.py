"""Emotion vectors: what they are, their file, and how they are extracted from a model."""

from emokernel.vectors.emotion_vectors import EmotionVectors

__all__ = ["EmotionVectors"]
