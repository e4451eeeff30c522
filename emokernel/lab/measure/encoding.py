"""Texts as the model reads them: ids, mask, and which tokens count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from emokernel.errors import EmokernelError
from emokernel.vectors.extraction.reading import Text, encode

# Of one text; longer ones are cut.
MAX_TOKENS = 4096
# That are held at once: rows x tokens x vocabulary, 256 MiB in fp32.
MOST_LOGITS = 1 << 26


@dataclass(frozen=True)
class Encoded:
    """``ids``, ``mask`` and ``counted``, all ``[texts, tokens]``, padded on the right.

    ``counted``: tokens of a text's own, neither of its context nor special ones nor padding.
    """

    ids: Tensor
    mask: Tensor
    counted: Tensor


def encoded(tokenizer: Any, texts: Iterable[Text], *, special_tokens: bool = True) -> Encoded:
    """Strings or (context, text) pairs; any fast tokenizer, with or without a pad token."""
    samples = encode(tokenizer, texts, MAX_TOKENS, add_special_tokens=special_tokens)
    if not samples:
        raise EmokernelError("there is no text to read: let the model write more")
    ids = pad_sequence([torch.from_numpy(sample.ids).long() for sample in samples], True)
    counted = pad_sequence([torch.from_numpy(sample.own) for sample in samples], True)
    mask = pad_sequence([torch.ones(len(sample.ids), dtype=torch.long) for sample in samples], True)
    return Encoded(ids, mask, counted)


def batches(
    tokenizer: Any, texts: Sequence[Text], size: int, *, special_tokens: bool = True
) -> Iterator[tuple[list[int], Encoded]]:
    """(Numbers of ``size`` texts at most, those texts as `encoded`), of about the same length."""

    def characters(number: int) -> int:
        text = texts[number]
        return len(text) if isinstance(text, str) else sum(map(len, text))

    order = sorted(range(len(texts)), key=characters)
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        chosen = [texts[number] for number in numbers]
        yield numbers, encoded(tokenizer, chosen, special_tokens=special_tokens)
