"""Extraction: from contrastive text, or a model's own answers, to emotion vectors."""

from emokernel.sampling import Sampling
from emokernel.vectors.extraction.extract import extract, extract_answers
from emokernel.vectors.extraction.options import Options

__all__ = ["Options", "Sampling", "extract", "extract_answers"]
