"""Fluency of text: distinct and repeated n-grams, perplexity under the unsteered model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.lab.measure.encoding import MAX_TOKENS, encode
from emokernel.lab.measure.likelihood import losses

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
# A text loops if more of its 4-grams than this have been there before. Thirty words have 27: a
# sentence of ten words that is said twice repeats 7 (.26), said three times 17 (.63).
LOOP = 0.3
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
    return fmean(_repetitions(texts, n))


def looping(texts: Sequence[str]) -> float:
    """The share of texts whose own `repetition` is above `LOOP`, 0..1; ValueError without texts.

    `distinct_n` over many texts hardly sees one that says the same sentence again and again.
    """
    return fmean(repeated > LOOP for repeated in _repetitions(texts, 4))


def _repetitions(texts: Sequence[str], n: int) -> list[float]:
    if not texts:
        raise ValueError("there is no text to measure the repetition of")
    grams = [_grams(text, n) for text in texts]
    return [1 - len(set(own)) / len(own) if own else 0.0 for own in grams]


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
    if not pairs:
        return torch.zeros(2, 0, dtype=torch.float64).unbind()
    texts = encode(tokenizer, pairs, MAX_TOKENS, add_special_tokens=special_tokens)
    return losses(model, texts, batch_size)


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return list(zip(*(words[start:] for start in range(n)), strict=False))
