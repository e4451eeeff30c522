"""Sampling of a batch: contexts of any length in, token ids of the answers out.

Every answer has random numbers of its own, so it depends on its context and its seed alone, not on
what else is in the batch; under equal seeds, answers differ by what was asked for and by nothing
else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.lab.measure.decoding import Decoding
from emokernel.lab.measure.nucleus import Nucleus, Sampling
from emokernel.patch.decoder import evaluating
from emokernel.requests import Request
from emokernel.steering import Steering

__all__ = ["Sampling", "sample"]

# Rows are taken out of a batch when so large a share of it has ended.
_ENDED = 1 / 8


def sample(
    model: nn.Module,
    tokenizer: Tokenizer,
    contexts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[Sequence[int]],
    steering: Steering | None = None,
    requests: Sequence[Request | None] | None = None,
) -> list[list[int]]:
    """The token ids of one answer to each context (token ids), without what ends it.

    ``seeds``: for each context the non-negative integers that its random numbers come from.
    ``requests``: what each is to feel, by ``steering``, the steering of the model. Of the model's
    generation_config only the end tokens count, together with the tokenizer's.
    EmokernelError for a model that gives NaN.
    """
    ends = _ends(model, tokenizer)
    filler = next((each for each in (tokenizer.pad_token_id, *ends) if each is not None), 0)
    nucleus = Nucleus(seeds, sampling)
    answers: list[list[int]] = [[] for _ in contexts]
    with torch.no_grad(), evaluating(model):
        decoding = Decoding(model, contexts, filler, steering, requests)
        rows = torch.arange(len(contexts))  # of the answers that have not been taken out
        going = torch.ones(len(contexts), dtype=torch.bool)
        scores = decoding.begin()
        for step in range(sampling.max_new_tokens):
            tokens = nucleus.choose(scores, step, rows)
            known = tokens.cpu()
            going &= ~torch.isin(known, torch.tensor(ends, dtype=torch.long))
            for row, token in zip(rows[going].tolist(), known[going].tolist(), strict=True):
                answers[row].append(token)
            if step + 1 == sampling.max_new_tokens or not going.any():
                break
            if (~going).sum() >= _ENDED * len(going):
                tokens = tokens[going.to(tokens.device)]
                decoding.keep(going.nonzero().flatten())
                rows, going = rows[going], going[going]
            scores = decoding.step(tokens)
    return answers


def _ends(model: nn.Module, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end an answer: the model's and the tokenizer's, as either may lack one."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None), tokenizer.eos_token_id
    ends = [end for ids in named if ids is not None for end in np.ravel(ids).tolist()]
    return list(dict.fromkeys(ends))
