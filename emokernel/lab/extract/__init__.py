"""Extraction: from contrastive text, or a model's own answers, to emotion vectors."""

from emokernel.lab.extract.extraction import extract, extract_answers
from emokernel.lab.extract.options import Options
from emokernel.lab.measure.sampling import Sampling

__all__ = ["Options", "Sampling", "extract", "extract_answers"]
