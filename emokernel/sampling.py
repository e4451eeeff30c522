"""Sampling of a batch: contexts of any length in, token ids of the answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from emokernel.errors import EmokernelError
from emokernel.patch.decoder import device_of, evaluating


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled; temperature 0 takes the likeliest token."""

    max_new_tokens: int = 64
    temperature: float = 0.8
    top_p: float = 0.9

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise EmokernelError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise EmokernelError(
                "temperature must be at least 0 and top_p above 0 and at most 1, got"
                f" {self.temperature} and {self.top_p}"
            )


def sample(
    model: nn.Module,
    tokenizer: Any,
    contexts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
) -> list[list[int]]:
    """The token ids of one answer to each context (token ids), without what ends it.

    The random numbers of torch begin with ``seed``, and go on as they were afterwards.
    """
    embeddings = model.get_input_embeddings()
    device = device_of(embeddings, embeddings.weight)
    ends = _ends(model, tokenizer)
    filler = next((each for each in (tokenizer.pad_token_id, *ends) if each is not None), 0)
    longest = max(map(len, contexts))
    ids = torch.full((len(contexts), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, context in enumerate(contexts):  # on the left, whatever side the tokenizer pads on
        ids[row, longest - len(context) :] = torch.tensor(context)
        mask[row, longest - len(context) :] = 1
    chances = {"do_sample": False}
    if sampling.temperature:
        chances = {
            "do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "top_k": 0,
        }  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad(), evaluating(model):
        torch.manual_seed(seed % 2**63)
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=filler,
            **({"eos_token_id": ends} if ends else {}),
            **chances,
        )
    answers = output[:, longest:].tolist()
    return [
        tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))]
        for tokens in answers
    ]


def _ends(model: nn.Module, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's own, else the tokenizer's."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
