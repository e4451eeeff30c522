"""Hashed n-gram features of a text, for the judge: no vocabulary, so no word is ever stored."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_TOKEN = re.compile(r"\[[a-z]+\]|[a-z]+(?:'[a-z]+)?|\d+|[^\w\s]")


@dataclass(frozen=True)
class Bag:
    """The features of n texts: bucket numbers [features], first feature of each text [n], weights.

    A weight is one over the root of the number of features of its text, so that long texts do not
    outweigh short ones.
    """

    buckets: Tensor
    offsets: Tensor
    weights: Tensor


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers, punctuation marks and emoji, each a token."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def word_ngrams(text: str) -> list[str]:
    """Words and pairs of neighbouring words, with marks at both ends of the text."""
    words = ["<", *tokens(text), ">"]
    return words[1:-1] + [f"{left} {right}" for left, right in pairwise(words)]


def character_ngrams(text: str) -> list[str]:
    """Pieces of 3 to 5 characters of each word, its ends marked."""
    marked = [f"<{token}>" for token in tokens(text) if token[0].isalpha()]
    return [
        word[start : start + length]
        for word in marked
        for length in (3, 4, 5)
        for start in range(len(word) - length + 1)
    ]


def hashed(features: Sequence[str], buckets: int) -> list[int]:
    """The bucket of each feature; a text without features gets bucket 0."""
    return [zlib.crc32(feature.encode()) % buckets for feature in features] or [0]


def bag(rows: Sequence[list[int]]) -> Bag:
    """One `Bag` of the bucket numbers of several texts."""
    counts = torch.tensor([len(row) for row in rows])
    return Bag(
        buckets=torch.tensor([bucket for row in rows for bucket in row]),
        offsets=counts.cumsum(0) - counts,
        weights=counts.float().rsqrt().repeat_interleave(counts),
    )
