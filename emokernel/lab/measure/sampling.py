"""Sampling of a batch: contexts of any length in, token ids of the answers out.

Every answer has random numbers of its own, so it depends on its context and its seed alone, not on
what else is in the batch; under equal seeds, answers differ by what was asked for and by nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.lab.measure.encoding import input_device
from emokernel.patch.decoder import evaluating


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


class Nucleus(LogitsProcessor):
    """Leaves the one token of each row that its random numbers choose, or its likeliest token.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): from the fewest likeliest tokens that
    have ``top_p`` of the probability together. A token of the whole distribution is drawn and, if
    it is none of those, drawn again; that is exact and needs no sorting. Under a temperature of 0
    it is the likeliest one.
    """

    DRAWS = 4

    def __init__(self, seeds: Sequence[Sequence[int]], sampling: Sampling) -> None:
        """``seeds``: non-negative integers for each row."""
        shape = sampling.max_new_tokens, self.DRAWS + 1
        rows = [np.random.default_rng(list(seed)).random(shape, np.float32) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(rows))
        self._sampling = sampling
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` [rows, vocabulary] with -inf for all but the chosen tokens.

        EmokernelError if there is no likeliest token in a row: NaN, or an infinite score.
        """
        uniforms = self._uniforms[:, self._step].to(scores.device)
        self._step += 1
        largest, chosen = scores.max(-1)  # NaN where a row has one
        if not largest.isfinite().all():
            raise EmokernelError(
                "the model gives NaN or infinite logits, from which no token can be chosen: load it"
                " in another dtype, such as bfloat16 or float32, or steer it less"
            )
        if self._sampling.temperature:
            probabilities = (scores.float() / self._sampling.temperature).softmax(-1)
            chosen = self._drawn(probabilities, uniforms)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    def _drawn(self, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        sums = probabilities.cumsum(-1)
        chosen = _at(sums, uniforms[:, 0])
        if self._sampling.top_p >= 1:
            return chosen
        for draw in range(1, self.DRAWS + 1):
            picked = probabilities.gather(1, chosen[:, None])
            likelier = (probabilities * (probabilities > picked)).sum(-1)
            outside = (likelier >= self._sampling.top_p).nonzero().flatten()
            if not len(outside):
                break
            if draw < self.DRAWS:
                chosen[outside] = _at(sums[outside], uniforms[outside, draw])
            else:
                chosen[outside] = self._sorted(probabilities[outside], uniforms[outside, -1])
        return chosen

    def _sorted(self, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        """For rows that have drawn in vain: from their nucleus, which takes sorting."""
        ordered, tokens = probabilities.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        nucleus = ordered * (before < self._sampling.top_p)
        return tokens.gather(1, _at(nucleus.cumsum(-1), uniforms)[:, None]).flatten()


def sample(
    model: nn.Module,
    tokenizer: Tokenizer,
    contexts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The token ids of one answer to each context (token ids), without what ends it.

    ``seeds``: for each context the non-negative integers that its random numbers come from. Of the
    model's generation_config only the end tokens count, together with the tokenizer's.
    EmokernelError for a model that gives NaN.
    """
    device = input_device(model)
    ends = _ends(model, tokenizer)
    filler = next((each for each in (tokenizer.pad_token_id, *ends) if each is not None), 0)
    longest = max(map(len, contexts))
    ids = torch.full((len(contexts), longest), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, context in enumerate(contexts):  # on the left, whatever side the tokenizer pads on
        ids[row, longest - len(context) :] = torch.tensor(context)
        mask[row, longest - len(context) :] = 1
    with torch.no_grad(), evaluating(model), _default_generation(model):
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=filler,
            do_sample=False,
            logits_processor=LogitsProcessorList([Nucleus(seeds, sampling)]),
            **({"eos_token_id": ends} if ends else {}),
        )
    answers = output[:, longest:].tolist()
    return [
        tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))]
        for tokens in answers
    ]


def _at(sums: Tensor, shares: Tensor) -> Tensor:
    """The token at which each row of cumulative sums passes that share of its last one."""
    wanted = shares[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1).flatten()


@contextmanager
def _default_generation(model: nn.Module) -> Iterator[None]:
    """Within it, `generate` finds no settings of the model's own; they are back afterwards.

    `generate` fills up what it is given from them, even a whole GenerationConfig. A wrapped model
    has them on the module inside.
    """
    own = [
        (part, config)
        for part in model.modules()
        if (config := vars(part).get("generation_config")) is not None
    ]
    try:
        for part, _ in own:
            part.generation_config = GenerationConfig()
        yield
    finally:
        for part, config in own:
            part.generation_config = config


def _ends(model: nn.Module, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end an answer: the model's and the tokenizer's, as either may lack one."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None), tokenizer.eos_token_id
    ends = [end for ids in named if ids is not None for end in np.ravel(ids).tolist()]
    return list(dict.fromkeys(ends))
