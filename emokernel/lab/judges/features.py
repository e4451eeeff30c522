"""Hashed n-gram features of texts: no vocabulary, so no word of the training text is stored."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

_TOKEN = re.compile(r"\[[a-z]+\]|[a-z]+(?:'[a-z]+)?|\d+|[^\w\s]")


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


def bag(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """The features of n items, which may have none, as `torch.nn.EmbeddingBag` takes them.

    Bucket numbers [features], the first feature of each item [n], and weights [features]: one over
    the root of the number of features of the item, so that long items do not outweigh short ones.
    """
    counts = torch.tensor([len(row) for row in rows])
    buckets = torch.tensor([number for row in rows for number in row], dtype=torch.long)
    weights = counts.float().rsqrt().repeat_interleave(counts)
    return buckets, counts.cumsum(0) - counts, weights
