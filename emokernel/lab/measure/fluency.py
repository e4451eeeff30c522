"""Fluency of text: distinct and repeated n-grams, perplexity under the unsteered model."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.lab.measure.encoding import MOST_LOGITS, batches, input_device
from emokernel.patch.decoder import evaluating

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\w'])+")


def distinct_n(texts: Sequence[str], n: int = 3) -> float:
    """Distinct n-grams of lower-case words over all n-grams, pooled over ``texts``; 0..1.

    Li et al. 2016 (arXiv 1510.03055). Chinese characters, kana and Thai letters count as words,
    since no spaces part theirs. 0 for texts that are all too short to have any.
    """
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[str], n: int = 4) -> float:
    """Mean over texts of 1 - distinct n-grams / n-grams of a text; 0..1, larger is worse.

    The seq-rep-n of Welleck et al. 2020 (arXiv 1908.04319), of words as `distinct_n` splits them. A
    text of at most ``n`` words has one n-gram or none and repeats nothing: 0. ValueError without
    texts.
    """
    if not texts:
        raise ValueError("there is no text to measure the repetition of")
    grams = [_grams(text, n) for text in texts]
    return sum(1 - len(set(own)) / len(own) for own in grams if own) / len(texts)


def perplexity(model: nn.Module, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> float:
    """exp of the mean negative log-likelihood per token of texts, given the context of each.

    ``pairs`` are (context, text); both are encoded together, and only tokens that end within the
    text are counted; infinite if there is none. The model must be unsteered.
    """
    surprise, tokens = surprises(model, tokenizer, pairs)
    return exponential(float(surprise.sum() / tokens.sum())) if tokens.any() else math.inf


def exponential(nats: float) -> float:
    """exp of ``nats``, infinite where that is too large for a number."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


@torch.no_grad()
def surprises(
    model: nn.Module,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    special_tokens: bool = True,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood in nats and number of tokens of each text, both ``[n]``, fp64.

    As `perplexity` counts them. ``special_tokens``: whether the tokenizer adds its own; a chat
    template has put them into the context already.
    """
    device = input_device(model)
    surprise, tokens = torch.zeros(2, len(pairs), dtype=torch.float64)
    vocabulary = model.config.get_text_config().vocab_size
    with evaluating(model):
        for numbers, batch in batches(tokenizer, pairs, batch_size, special_tokens=special_tokens):
            rows, size = batch.to(device), max(1, MOST_LOGITS // (batch.ids.shape[1] * vocabulary))
            rows = (each.split(size) for each in (rows.ids, rows.mask, rows.counted))
            parts = [_losses(model, *part) for part in zip(*rows, strict=True)]
            surprise[numbers] = torch.cat(parts).double().cpu()
            tokens[numbers] = batch.counted[:, 1:].sum(1).double()
    return surprise, tokens


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def _losses(model: nn.Module, ids: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
    """Summed negative log-likelihood ``[rows]`` of the counted tokens."""
    counted = counted[:, 1:]
    positions = counted.any(0).nonzero().flatten()
    first = int(positions[0]) if len(positions) else counted.shape[1]
    # No logits of the context that all rows have, where the model can leave them out.
    kept = {}
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        kept = {"logits_to_keep": ids.shape[1] - first}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
    chosen = counted[:, first:]
    logits = logits[:, -1 - chosen.shape[1] : -1][chosen].float()
    loss = nn.functional.cross_entropy(logits, ids[:, 1 + first :][chosen], reduction="none")
    sums = torch.zeros(len(ids), device=loss.device)
    return sums.index_add_(0, chosen.nonzero()[:, 0], loss)
