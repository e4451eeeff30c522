"""The judge of calibration: linear in hashed n-grams, fitted to text that the other never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emokernel.lab.judges.features import bag, bucket, character_ngrams, tokens, word_ngrams
from emokernel.lab.judges.judge import Judge

CALIBRATION_JUDGE_PATH = Path(__file__).parent / "assets" / "calibration_judge"

# The word and the character buckets of a text.
Encoded = tuple[list[int], list[int]]


class LinearNetwork(nn.Module):
    """Logits that are linear in the word and character n-grams of a text."""

    SETTINGS = ("buckets",)

    def __init__(self, labels: int, buckets: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.buckets, self.dropout = buckets, dropout
        self.words = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.characters = nn.EmbeddingBag(buckets, labels, mode="sum")
        self.bias = nn.Parameter(torch.zeros(labels))
        nn.init.zeros_(self.words.weight)
        nn.init.zeros_(self.characters.weight)

    def encode(self, text: str) -> Encoded:
        """The buckets of all of `text`."""
        words = tokens(text)
        pieces = [piece for word in words if word[0].isalpha() for piece in character_ngrams(word)]
        return (
            [bucket(feature, self.buckets) for feature in word_ngrams(words)],
            [bucket(piece, self.buckets) for piece in pieces],
        )

    def forward(self, texts: Sequence[Encoded]) -> Tensor:
        """Logits [n, labels] of n encoded texts; in training some features count nothing."""
        logits, tables = self.bias, (self.words, self.characters)
        for table, rows in zip(tables, zip(*texts, strict=True), strict=True):
            buckets, offsets, weights = bag(rows)
            weights = F.dropout(weights, self.dropout, self.training)
            logits = logits + table(buckets, offsets, weights)
        return logits


class CalibrationJudge(Judge):
    """The judge that chooses strengths, so that the evaluating `Judge` never sees them chosen."""

    name = "embedded-calibration"
    network: ClassVar[type[nn.Module]] = LinearNetwork
    folder: ClassVar[Path] = CALIBRATION_JUDGE_PATH
    script: ClassVar[str] = "embedded.calibration_judge"
