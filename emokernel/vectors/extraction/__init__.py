"""Extraction: from contrastive text to emotion vectors."""

from emokernel.vectors.extraction.extract import extract

__all__ = ["extract"]
