"""Texts as the model reads them: ids, mask, and which tokens count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.patch.decoder import device_of

# A text, or (context, text): the context is read by the model but not recorded.
Text = str | tuple[str, str]
# Of one text; longer ones are cut.
MAX_TOKENS = 4096
# That are held at once: rows x tokens x vocabulary, 256 MiB in fp32.
MOST_LOGITS = 1 << 26
_ENCODED_AT_ONCE = 1024


@dataclass(frozen=True)
class TokenizedText:
    """A text as the model reads it: token ids ``[T]``, and which of them are the text's own."""

    ids: np.ndarray
    own: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """``ids``, ``mask`` and ``counted``, all ``[texts, tokens]``, padded on the right.

    ``counted``: tokens of a text's own, neither of its context nor special ones nor padding.
    """

    ids: Tensor
    mask: Tensor
    counted: Tensor

    def to(self, device: torch.device) -> Encoded:
        """The same on a device."""
        return Encoded(self.ids.to(device), self.mask.to(device), self.counted.to(device))


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model, perhaps one that accelerate spreads over devices, takes its token ids."""
    embeddings = model.get_input_embeddings()
    return device_of(embeddings, embeddings.weight)


def encode(
    tokenizer: Tokenizer, texts: Iterable[Text], max_length: int, *, add_special_tokens: bool = True
) -> list[TokenizedText]:
    """The tokens of texts, ``max_length`` of each at most; context and special tokens are not own.

    ``add_special_tokens``: whether the tokenizer adds its own; the text of a chat template holds
    them already.
    EmokernelError for a slow tokenizer, or a single string in place of a list.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise EmokernelError("this needs a fast tokenizer, one that knows character offsets")
    if isinstance(texts, str):
        raise EmokernelError("texts must be a list of texts, got one string")
    pairs = [("", text) if isinstance(text, str) else text for text in texts]
    samples, special = [], special_ids(tokenizer)
    for start in range(0, len(pairs), _ENCODED_AT_ONCE):
        part = pairs[start : start + _ENCODED_AT_ONCE]
        encoded = tokenizer(
            [context + text for context, text in part],
            add_special_tokens=add_special_tokens,
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
        )
        for row, (context, _) in enumerate(part):
            ends = np.array([end for _, end in encoded["offset_mapping"][row]], dtype=np.int64)
            ids = np.array(encoded["input_ids"][row], dtype=np.int32)
            # A token that begins with the space before the text belongs to the text.
            samples.append(TokenizedText(ids, (ends > len(context)) & ~np.isin(ids, special)))
    return samples


def special_ids(tokenizer: Tokenizer) -> np.ndarray:
    """The tokens that are never a text's own: all special ones but the unknown word."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return np.array(sorted(special), dtype=np.int32)


def encoded(tokenizer: Tokenizer, texts: Iterable[Text], *, special_tokens: bool = True) -> Encoded:
    """Strings or (context, text) pairs; any fast tokenizer, with or without a pad token."""
    samples = encode(tokenizer, texts, MAX_TOKENS, add_special_tokens=special_tokens)
    if not samples:
        raise EmokernelError("there is no text to read: let the model write more")
    return padded(samples)


def padded(samples: Sequence[TokenizedText]) -> Encoded:
    """Samples side by side; by hand, as many tokenizers of decoders have no pad token."""
    ids = pad_sequence([torch.from_numpy(sample.ids).long() for sample in samples], True)
    counted = pad_sequence([torch.from_numpy(sample.own) for sample in samples], True)
    mask = pad_sequence([torch.ones(len(sample.ids), dtype=torch.long) for sample in samples], True)
    return Encoded(ids, mask, counted)


def batches(
    tokenizer: Tokenizer, texts: Sequence[Text], size: int, *, special_tokens: bool = True
) -> Iterator[tuple[list[int], Encoded]]:
    """(Numbers of ``size`` texts at most, those texts as `encoded`), of about the same length."""
    samples = encode(tokenizer, texts, MAX_TOKENS, add_special_tokens=special_tokens)
    order = sorted(range(len(samples)), key=lambda number: len(samples[number].ids))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        yield numbers, padded([samples[number] for number in numbers])
