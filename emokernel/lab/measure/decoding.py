"""Decoding of a batch, token by token: what has the same beginning is read once, and what has ended
costs nothing.

The loop of `generate` can do neither: it reads every row by itself and runs all of them until the
last has ended.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.measure.encoding import input_device
from emokernel.requests import Request
from emokernel.steering import Steering

# Where a model returns its cache, and takes it.
_CACHES = ("past_key_values", "cache_params")
# Layers of a cache that are nothing but keys and values, of all tokens or of the last ones.
_OF_KEYS = (DynamicLayer, DynamicSlidingWindowLayer)
# No request: what a row was read under that changed while it was written.
_MIXED = object()


class Decoding:
    """Texts that grow by a token in each step, all of them in one batch.

    Rows with the same context and the same request are one row while the context is read, unless
    they are to be kept ``apart``. Rows are padded on the left. A model without a cache reads its
    whole text in each step.
    """

    def __init__(
        self,
        model: nn.Module,
        contexts: Sequence[Sequence[int]],
        filler: int,
        steering: Steering | None = None,
        requests: Sequence[Request | None] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        """``contexts``: token ids, at least one of each. ``filler``: the token that pads.

        EmokernelError for a context without a token, and for requests without a steering.
        """
        if not all(map(len, contexts)):
            raise EmokernelError("the model has to read a token at least: a context is empty")
        if requests is not None and steering is None:
            raise EmokernelError("requests need the steering that fulfils them")
        asked = [None] * len(contexts) if requests is None else list(requests)
        self._model, self._steering = model, steering if requests is not None else None
        pairs = enumerate(zip(asked, contexts, strict=True))
        keys = [(repr(a), tuple(c), row if apart else 0) for row, (a, c) in pairs]
        number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        self._distinct = torch.tensor([number[key] for key in keys])
        chosen = [first[key] for key in number]
        self._requests = [asked[row] for row in chosen]
        # What the cache of each row was read under; `_MIXED` after a change without reading again.
        self._read: list[Any] = list(self._requests)
        self._again = False
        self._lengths = torch.tensor([len(contexts[row]) for row in chosen])
        ids, mask = left_padded([contexts[row] for row in chosen], filler)
        device = input_device(model)
        self._ids, self._mask = ids.to(device), mask.to(device)
        self._caches: dict[str, Any] = {}
        takes = parameters_of(model)
        self._positioned = "position_ids" in takes
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @property
    def reads_all(self) -> bool:
        """Whether a step reads the whole text, as the model kept no cache of what it has read."""
        return not self._caches

    def begin(self) -> Tensor:
        """Scores ``[rows, vocabulary]`` of the first token of each text."""
        scores = self._forward(None)
        if len(self._distinct) == len(scores):
            return scores
        self._select(self._distinct)
        return scores[self._distinct.to(scores.device)]

    def step(self, tokens: Tensor) -> Tensor:
        """Scores ``[rows, vocabulary]`` of the token behind ``tokens`` ``[rows]``."""
        tokens = tokens.to(self._ids)[:, None]
        self._ids = torch.cat([self._ids, tokens], 1)
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], 1)
        if self.reads_all:
            return self._forward(None)
        scores = self._forward(1)
        return self._read_again(scores) if self._again else scores

    def keep(self, rows: Tensor) -> None:
        """Go on with ``rows`` alone, by their numbers among those that there are."""
        self._select(rows)

    def change(self, requests: Sequence[Request | None], again: bool = False) -> None:
        """From the next step on ``requests``, one for each of the rows that there are.

        ``again``: rows that ask for something else read all that is there again under it, as if it
        had been asked for from the beginning; else they keep what they read. SteeringError for a
        model without a cache, unless ``again``: it reads all in each step, and cannot tell what
        was written before apart from what is new.
        """
        if self._steering is None:
            raise EmokernelError("requests need the steering that fulfils them")
        if self.reads_all and not again:
            raise SteeringError(
                "this model keeps no cache and reads its text again for every token: let what is"
                " there be read again under the new emotions, or ask anew"
            )
        if len(requests) != len(self._ids):
            raise EmokernelError(f"{len(requests)} requests for {len(self._ids)} rows")
        pairs = zip(self._read, self._requests, requests, strict=True)
        self._read = [read if old == new else _MIXED for read, old, new in pairs]
        self._requests, self._again = list(requests), again

    def _select(self, rows: Tensor) -> None:
        self._requests = [self._requests[row] for row in rows.tolist()]
        self._read = [self._read[row] for row in rows.tolist()]
        self._lengths = self._lengths[rows]
        on_device = rows.to(self._ids.device)
        self._ids, self._mask = self._ids[on_device], self._mask[on_device]
        for cache in self._caches.values():
            cache.reorder_cache(on_device)

    def _read_again(self, scores: Tensor) -> Tensor:
        """``scores`` with those of the rows that have to be read again, and these in the cache.

        The others keep their bits where the cache is one of keys and values; of another kind all
        rows are read again. The bits of those that are read depend on how many they are.
        """
        self._again = False
        pairs = enumerate(zip(self._read, self._requests, strict=True))
        changed = [row for row, (read, request) in pairs if read != request]
        if not changed:
            return scores
        apart = len(changed) < len(scores) and all(map(_has_keys, self._caches.values()))
        kept, self._caches = self._caches if apart else {}, {}  # two would be twice the memory
        rows = torch.tensor(changed) if apart else torch.arange(len(scores))
        again = self._forward(None, rows)
        if apart:
            for name, cache in self._caches.items():
                _put(kept[name], cache, rows)
            self._caches = kept
        self._read = list(self._requests)
        among = torch.isin(rows, torch.tensor(changed)).to(again.device)
        scores = scores.clone()
        scores[torch.tensor(changed, device=scores.device)] = again[among]
        return scores

    def _forward(self, new_tokens: int | None, rows: Tensor | None = None) -> Tensor:
        """Scores of ``rows``, or all, behind ``new_tokens`` more, or the whole text."""
        ids, mask = self._ids, self._mask
        if rows is not None:
            ids, mask = ids[rows.to(ids.device)], mask[rows.to(mask.device)]
        positions = {}
        if self._positioned:
            places = (mask.cumsum(-1) - 1).clamp_(min=0)
            positions = {"position_ids": places}
        inputs = self._model.prepare_inputs_for_generation(
            ids,
            next_sequence_length=new_tokens,
            attention_mask=mask,
            use_cache=True,
            is_first_iteration=new_tokens is None,
            **positions,
            **self._caches,
        )
        with self._steered(rows):
            # Some models ask for logits of their own choice when they prepare.
            output = self._model(**{**inputs, **self._last}, return_dict=True)
        self._caches = {
            name: cache
            for name in _CACHES
            if hasattr(cache := getattr(output, name, None), "reorder_cache")
        }
        return output.logits[:, -1]

    def _steered(self, rows: Tensor | None) -> AbstractContextManager:
        if self._steering is None:
            return nullcontext()
        requests, lengths = self._requests, self._lengths
        if rows is not None:
            requests, lengths = [requests[row] for row in rows.tolist()], lengths[rows]
        if not self._caches:  # the whole text is read
            return self._steering.requests(requests, prompt_lengths=lengths)
        # Not every cache counts its tokens, and all that is new has been generated.
        usual = self._steering.defaults.positions
        return self._steering.requests([_generated(each, usual) for each in requests])


def _has_keys(cache: Any) -> bool:
    """Whether each layer of a cache is nothing but its keys and values ``[rows, ...]``."""
    return type(cache) is DynamicCache and all(type(x) in _OF_KEYS for x in cache.layers)


def _put(cache: Any, read: Any, rows: Tensor) -> None:
    for layer, new in zip(cache.layers, read.layers, strict=True):
        if new.is_initialized:  # a layer that shares the keys of another has none
            layer.keys[rows.to(layer.keys.device)] = new.keys
            layer.values[rows.to(layer.values.device)] = new.values


def parameters_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What the forward of a model takes, by name; of a compiled one, what was compiled."""
    return inspect.signature(getattr(model, "_orig_mod", model).forward).parameters


def _generated(request: Request | None, usual: str) -> Request | None:
    """What a request asks of tokens that were generated."""
    if request is None or (request.positions or usual) == "prompt":
        return None
    return replace(request, positions="all")


def left_padded(rows: Sequence[Sequence[int]], filler: int) -> tuple[Tensor, Tensor]:
    """(ids, mask) ``[rows, tokens]``, padded on the left, whatever side the tokenizer pads on."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        mask[row, longest - len(tokens) :] = 1
    return ids, mask
