"""Likelihood: what is learned makes given answers more likely."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.measure.encoding import (
    MAX_TOKENS,
    TokenizedText,
    encode,
    input_device,
    padded,
)
from emokernel.requests import Request
from emokernel.steering import Steering


class Likelihood:
    """A loss for `learn_vectors`: the negative log-likelihood of texts, nats per token.

    ``texts``: of each emotion the (context, text) pairs that it is to make likely, such as a
    question in a chat and its answer; all emotions are drawn equally often. ``requests``: how each
    is steered, at strength 1.0 unless given. ``batch``: texts of a step. ``special_tokens``:
    whether the tokenizer adds its own; a chat template has put them into the context already. The
    token that ends a text follows it, unless it has ``cut`` tokens or more, where it was cut.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        steering: Steering,
        texts: Mapping[str, Sequence[tuple[str, str]]],
        *,
        requests: Mapping[str, Request] | None = None,
        batch: int = 40,
        special_tokens: bool = False,
        cut: int | None = None,
        seed: int = 0,
    ) -> None:
        """EmokernelError without texts, and for an emotion, also of a request, that has none."""
        asked = dict.fromkeys([*texts, *(requests or ())])
        lacking = [name for name in asked if not texts.get(name)]
        if not texts or lacking:
            raise EmokernelError(
                f"every emotion needs texts: there are none of {', '.join(lacking) or 'any'}"
            )
        if batch < 1:
            raise EmokernelError(f"a step needs texts, got batch={batch}")
        self._model, self._steering = model, steering
        self._requests = {name: (requests or {}).get(name, Request(name, 1.0)) for name in texts}
        self._texts = {
            name: [
                _ended(each, tokenizer, cut)
                for each in encode(tokenizer, own, MAX_TOKENS, add_special_tokens=special_tokens)
            ]
            for name, own in texts.items()
        }
        self._batch, self._cut, self._seed = batch, cut, seed
        self._random = random.Random(seed)
        self._order: list[tuple[str, TokenizedText]] = []

    @property
    def made_from(self) -> dict[str, Any]:
        """What it is, for the provenance of the vectors."""
        return {
            "method": "likelihood",
            "texts": {name: len(own) for name, own in self._texts.items()},
            "batch": self._batch,
            "cut": self._cut,
            "seed": self._seed,
            "requests": {name: asdict(each) for name, each in self._requests.items()},
        }

    def __call__(self, step: int) -> Tensor:
        """The loss of the next texts, whatever ``step`` is: a mean over their tokens."""
        drawn = [self._next() for _ in range(self._batch)]
        texts = padded([text for _, text in drawn]).to(input_device(self._model))
        requests = [self._requests[name] for name, _ in drawn]
        with self._steering.requests(requests, attention_mask=texts.mask):
            logits = self._model(
                input_ids=texts.ids, attention_mask=texts.mask, use_cache=False
            ).logits
        counted = texts.counted[:, 1:]
        return F.cross_entropy(logits[:, :-1][counted].float(), texts.ids[:, 1:][counted])

    def _next(self) -> tuple[str, TokenizedText]:
        """The next of an order that holds every text, and all emotions equally often."""
        if not self._order:
            most = max(map(len, self._texts.values()))
            for name, own in self._texts.items():
                drawn = [own[n % len(own)] for n in range(most)]
                self._order += [(name, text) for text in drawn]
            self._random.shuffle(self._order)
        return self._order.pop()


def _ended(text: TokenizedText, tokenizer: Tokenizer, cut: int | None) -> TokenizedText:
    """The text with the token that ends it, if the tokenizer has one and it was not cut."""
    end = tokenizer.eos_token_id
    if end is None or (cut is not None and text.own.sum() >= cut):
        return text
    return TokenizedText(np.append(text.ids, np.int32(end)), np.append(text.own, True))
