"""How surprising texts are to a model: what several of them stand behind is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from emokernel.lab.measure.decoding import parameters_of
from emokernel.lab.measure.encoding import MOST_LOGITS, TokenizedText, input_device
from emokernel.patch.decoder import evaluating

# Layers of a cache behind which any model can read several tokens at once; recurrent ones are none.
_READ_BEHIND = (DynamicLayer, DynamicSlidingWindowLayer)


@torch.no_grad()
def losses(
    model: nn.Module, texts: Sequence[TokenizedText], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood in nats and number of the own tokens of each text, ``[n]``, fp64.

    The first token of all, which nothing stands before, is not counted. The model must be
    unsteered. ``batch_size``: texts at once, at most.
    """
    nats, tokens = torch.zeros(2, len(texts), dtype=torch.float64)
    read = {number: _Text.of(text) for number, text in enumerate(texts) if text.own[1:].any()}
    vocabulary = model.config.get_text_config().vocab_size
    with evaluating(model):
        for numbers, shared in _batches(model, read, batch_size, MOST_LOGITS // vocabulary):
            chosen = [read[number] for number in numbers]
            nats[numbers] = torch.tensor(_losses(model, chosen, shared), dtype=torch.float64)
    for number, text in read.items():
        tokens[number] = len(text.counted)
    return nats, tokens


@dataclass(frozen=True, eq=False)
class _Text:
    """Token ids ``[T]`` up to the last that counts; the places of those that do, ascending."""

    ids: Tensor
    counted: Tensor

    @classmethod
    def of(cls, text: TokenizedText) -> _Text:
        counted = torch.from_numpy(text.own[1:]).nonzero().flatten() + 1
        return cls(torch.from_numpy(text.ids[: int(counted[-1]) + 1]).long(), counted)

    @property
    def first(self) -> int:
        """The place of the token whose logits say how likely the first that counts is."""
        return int(self.counted[0]) - 1

    @property
    def stem(self) -> tuple[int, ...]:
        """What is read before that token."""
        return tuple(self.ids[: self.first].tolist())


def _batches(
    model: nn.Module, texts: dict[int, _Text], batch_size: int, most: int
) -> Iterator[tuple[list[int], int]]:
    """(Numbers of texts; how many tokens each of them has before what is read for it alone).

    Texts of a batch are about as long. ``most``: logits are held of so many tokens at once.
    """
    stems = {number: text.stem for number, text in texts.items()}
    repeated = {stem for stem, count in Counter(stems.values()).items() if count > 1}
    if not any(repeated) or not _can_share(model):
        repeated = set()
    groups: dict[int, list[int]] = {}
    for number, stem in stems.items():
        groups.setdefault(len(stem) if stem in repeated else 0, []).append(number)
    for shared, numbers in groups.items():
        numbers.sort(key=lambda number: len(texts[number].ids), reverse=True)
        start = 0
        while start < len(numbers):
            batch = numbers[start : start + batch_size]
            first = min(texts[number].first for number in batch)
            batch = batch[: max(1, most // (len(texts[batch[0]].ids) - first))]
            yield batch, shared
            start += len(batch)


def _losses(model: nn.Module, texts: Sequence[_Text], shared: int) -> list[float]:
    """Summed negative log-likelihood of each of some texts."""
    device = input_device(model)
    ids = pad_sequence([text.ids[shared:] for text in texts], True)
    mask = pad_sequence([torch.ones(len(text.ids), dtype=torch.long) for text in texts], True)
    first = min(text.first for text in texts)
    # No logits of the context that all rows have, where the model can leave them out.
    takes = parameters_of(model)
    kept = {"logits_to_keep": mask.shape[1] - first} if "logits_to_keep" in takes else {}
    behind = {"past_key_values": _stems(model, texts, shared)} if shared else {}
    logits = model(
        input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=bool(shared),
        **behind, **kept,
    ).logits  # fmt: skip
    begin = mask.shape[1] - logits.shape[1]
    found = []
    for text, row in zip(texts, logits, strict=True):  # one by one, which takes less memory
        scores = row[(text.counted - 1 - begin).to(row.device)].float()
        found.append(
            F.cross_entropy(scores, text.ids[text.counted].to(row.device), reduction="sum")
        )
    return torch.stack(found).tolist()


def _stems(model: nn.Module, texts: Sequence[_Text], length: int) -> Any:
    """The cache of the first tokens of texts, each reading of which is done once."""
    stems = [tuple(text.ids[:length].tolist()) for text in texts]
    number = {stem: row for row, stem in enumerate(dict.fromkeys(stems))}
    ids = torch.tensor(list(number), device=input_device(model))
    cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    cache.reorder_cache(torch.tensor([number[stem] for stem in stems], device=ids.device))
    return cache


def _can_share(model: nn.Module) -> bool:
    """Whether what follows can be read behind a cache, several tokens at once."""
    if not {"past_key_values", "logits_to_keep"} <= parameters_of(model).keys():
        return False
    ids = torch.zeros(1, 1, dtype=torch.long, device=input_device(model))
    cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) in _READ_BEHIND for layer in layers)
