"""saklas: README "Python API" (`SaklasSession`, `session.generate(..., steering=expression)`).

AGPL: run through its public interface, nothing of it is here. Layer l is the output of block l,
0-based. A registered direction is added as one constant a layer, but the coefficient counts in a
unit of its own: 16 times the coefficient, over the mean length of the vectors (over the layers) in
the Mahalanobis metric of its neutral prompts. That is one factor for all layers, so a mix is
registered as one vector ready mixed, with the coefficient that undoes the factor: plain addition.
It generates one sequence by a loop of its own, and several (`generate_batch`) by transformers'
`generate`; unpatched is timed by the same calls. Prompts are text: its tokenizer reads ours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from base import Mix, TransformersDriver
from passes import timed, told
from protocol import HOOK, STEERED
from transformers import AutoTokenizer

GAIN = 16.0  # what a coefficient of 1 slides, in its whitened unit
NAME = "asked"


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "saklas")

    def prepare(self) -> None:
        # It keeps what it computes of a model in the user's home otherwise.
        self.home = tempfile.TemporaryDirectory()
        os.environ["SAKLAS_HOME"] = self.home.name
        from saklas import SaklasSession

        self.tokenizer = AutoTokenizer.from_pretrained(self.model.config.name_or_path)
        self.tokenizer.encode = partial(_encode, self.tokenizer.encode)
        self.steered = self.model  # it hooks while it steers, and changes nothing
        self.session = SaklasSession(self.model, self.tokenizer, probes=[])
        self.expression: str | None = None

    def ask(self, rows: list[Mix | None]) -> None:
        from saklas import Profile

        mix = self.one_mix(rows)
        self.expression = None
        vector = self.mixed(mix)
        directions = {layer: vector[layer] for layer in self.layers if vector[layer].any()}
        if directions:
            whitener = self.session.whitener
            lengths = [float(whitener.mahalanobis_norm(*item)) for item in directions.items()]
            self.session.steer(NAME, Profile(directions))
            self.expression = f"{sum(lengths) / len(lengths) / GAIN:.9f} {NAME}"

    def steering(self) -> AbstractContextManager[Any]:
        return self.session.steering(self.expression) if self.expression else nullcontext()

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        from saklas import SamplingConfig

        texts = [" ".join(map(str, ids)) for ids in prompts]
        # No sequence ends early: one loop knows biases, the other transformers' configuration.
        never = {self.tokenizer.eos_token_id: -1e9} if len(texts) == 1 else None
        self.model.generation_config.min_new_tokens = new_tokens
        options = {
            "steering": self.expression if how == STEERED else None,
            "sampling": SamplingConfig(temperature=0.0, max_tokens=new_tokens, logit_bias=never),
            "raw": True,
            "stateless": True,
        }
        hooks = self.hooked() if how == HOOK else nullcontext()
        with hooks, timed(self.model.get_output_embeddings()) as times:
            if len(texts) == 1:
                self.session.generate(texts[0], **options)
            else:
                self.session.generate_batch(texts, **options)
        return told(times, new_tokens)


def _encode(encode: Callable[..., Any], text: str, **options: Any) -> Any:
    """Numbers are tokens; all else is text."""
    if all(word.isdecimal() for word in text.split()):
        return torch.tensor([[int(word) for word in text.split()]])
    return encode(text, **options)
