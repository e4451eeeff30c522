"""Fluency of generated text: distinct n-grams, and perplexity under the unsteered model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


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


@torch.no_grad()
def perplexity(
    model: nn.Module,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    batch_size: int = 64,
) -> float:
    """exp of the mean negative log-likelihood per token of texts, given the context of each.

    ``pairs`` are (context, text); both are encoded together, and only tokens that end within the
    text are counted. The model must be unsteered. ValueError if there is no such token.
    """
    total, count = 0.0, 0
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        encoded = tokenizer(
            [context + text for context, text in batch],
            return_tensors="pt",
            padding=True,
            return_offsets_mapping=True,
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        device = model.get_input_embeddings().weight.device
        logits = model(ids.to(device), attention_mask=mask.to(device)).logits[:, :-1].float().cpu()
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        contexts = torch.tensor([len(context) for context, _ in batch])
        counted = (encoded["offset_mapping"][:, 1:, 1] > contexts[:, None]) & (mask[:, 1:] != 0)
        total += loss[counted].double().sum().item()
        count += int(counted.sum())
    if not count:
        raise ValueError("there is no text to measure the perplexity of")
    return math.exp(total / count)
