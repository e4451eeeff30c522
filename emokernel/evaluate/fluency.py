"""Fluency of generated text: distinct n-grams, and perplexity under the unsteered model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.evaluate.encoding import encoded


def distinct_n(texts: Sequence[str], n: int = 3) -> float:
    """Distinct n-grams of lower-case words over all n-grams, pooled over ``texts``; 0..1.

    Li et al. 2016 (arXiv 1510.03055). ValueError if no text has ``n`` words.
    """
    grams = []
    for text in texts:
        words = re.findall(r"[\w']+", text.lower())
        grams += zip(*(words[start:] for start in range(n)), strict=False)
    if not grams:
        raise ValueError(f"no text has {n} words")
    return len(set(grams)) / len(grams)


def perplexity(
    model: nn.Module, tokenizer: Any, pairs: Sequence[tuple[str, str]], batch_size: int = 64
) -> float:
    """exp of the mean negative log-likelihood per token of texts, given the context of each.

    ``pairs`` are (context, text); both are encoded together, and only tokens that end within the
    text are counted. The model must be unsteered. ValueError if there is no such token.
    """
    surprise, tokens = surprises(model, tokenizer, pairs, batch_size=batch_size)
    if not tokens.any():
        raise ValueError("there is no text to measure the perplexity of")
    return math.exp(surprise.sum() / tokens.sum())


@torch.no_grad()
def surprises(
    model: nn.Module,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    *,
    special_tokens: bool = True,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood in nats and number of tokens of each text, both ``[n]``, fp64.

    As `perplexity` counts them. ``special_tokens``: whether the tokenizer adds its own; a chat
    template has put them into the context already.
    """
    device = model.get_input_embeddings().weight.device
    surprise, tokens = torch.zeros(2, len(pairs), dtype=torch.float64)
    order = sorted(range(len(pairs)), key=lambda n: len(pairs[n][0]) + len(pairs[n][1]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = encoded(tokenizer, [pairs[n] for n in chosen], special_tokens=special_tokens)
        ids, mask, counted = batch.ids, batch.mask, batch.counted[:, 1:]
        logits = model(ids.to(device), attention_mask=mask.to(device)).logits[:, :-1].float().cpu()
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        surprise[chosen] = (loss * counted).sum(1).double()
        tokens[chosen] = counted.sum(1).double()
    return surprise, tokens
