"""Hashed n-gram features of texts: no vocabulary, so no word of the training text is stored."""

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
    """The features of n items: bucket numbers [features], first feature of each item [n], weights.

    A weight is one over the root of the number of features of its item, so that long items do not
    outweigh short ones.
    """

    buckets: Tensor
    offsets: Tensor
    weights: Tensor


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers, punctuation marks and emoji, each a token."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def word_ngrams(words: Sequence[str]) -> list[str]:
    """The words and the pairs of neighbouring words, with marks at both ends of the text."""
    return [*words, *(f"{left} {right}" for left, right in pairwise(["<", *words, ">"]))]


def character_ngrams(word: str) -> list[str]:
    """Pieces of 3 to 5 characters of a word with its ends marked; a mark or number stays whole."""
    marked = f"<{word}>"
    if not word[0].isalpha():
        return [marked]
    return [
        marked[start : start + length]
        for length in (3, 4, 5)
        for start in range(len(marked) - length + 1)
    ]


def bucket(feature: str, buckets: int) -> int:
    """The bucket of a feature: a checksum, so it is the same on every machine."""
    return zlib.crc32(feature.encode(errors="surrogatepass")) % buckets


def bag(rows: Sequence[Sequence[int]]) -> Bag:
    """One `Bag` of the bucket numbers of several items; an item may have none."""
    counts = torch.tensor([len(row) for row in rows])
    return Bag(
        buckets=torch.tensor([number for row in rows for number in row], dtype=torch.long),
        offsets=counts.cumsum(0) - counts,
        weights=counts.float().rsqrt().repeat_interleave(counts),
    )
