"""Measures against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emokernel import Affect
from emokernel.evaluate.affect import affect_of, cosine
from emokernel.evaluate.fluency import distinct_n, perplexity
from emokernel.evaluate.intervals import mean_interval


def test_distinct_n_counts_over_all_texts():
    assert distinct_n(["a b c d"]) == 1.0
    assert distinct_n(["a b c", "A, b c!"]) == 0.5
    assert distinct_n(["it's so", "it's so"], n=2) == 0.5
    with pytest.raises(ValueError, match="3 words"):
        distinct_n(["a b", ""])


def test_distinct_n_of_languages_without_spaces():
    assert distinct_n(["今日は晴れ"], n=3) == 1.0
    assert distinct_n(["ははははは", "ははは"], n=3) == 0.25
    assert distinct_n(["go 今日 go"], n=2) == 1.0


def test_perplexity_is_that_of_the_text_given_its_context(tiny):
    vocabulary = {"<pad>": 0, **{word: n + 1 for n, word in enumerate("abcdefgh")}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left"
    )
    model = tiny()
    pairs = [("a b", " c d e"), ("f", " a"), ("a", "")]
    losses = []
    for context, text in pairs:
        ids = torch.tensor([[vocabulary[word] for word in (context + text).split()]])
        with torch.no_grad():
            log_p = model(ids).logits[0].log_softmax(-1)
        first = len(context.split())
        losses += [-log_p[n - 1, ids[0, n]].item() for n in range(first, ids.shape[1])]
    assert len(losses) == 4
    expected = math.exp(sum(losses) / 4)
    assert perplexity(model, fast, pairs, batch_size=2) == pytest.approx(expected, rel=1e-4)


def test_affect_of_certain_labels():
    labels = ["neutral", "sadness", "joy"]
    points = affect_of(torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0.5, 0, 0.5]]), labels)
    joy = torch.tensor([math.cos(math.radians(7.8)), math.sin(math.radians(7.8))])
    torch.testing.assert_close(points, torch.stack([torch.zeros(2), joy, joy / 2]))


def test_cosine():
    assert cosine(torch.tensor([0.2, 0.0]), Affect(1.0, 0.0)) == pytest.approx(1.0)
    assert cosine(torch.tensor([0.0, -3.0]), Affect(0.0, 0.5)) == pytest.approx(-1.0)
    assert cosine(torch.tensor([0.0, 0.0]), Affect(0.0, 1.0)) == 0.0


def test_interval_respects_groups():
    mean, low, high = mean_interval([0.0] * 50 + [1.0] * 50, range(100))
    assert mean == 0.5
    assert 0.38 < low < 0.43 < 0.57 < high < 0.62
    _, grouped_low, grouped_high = mean_interval([0.0, 1.0] * 50, [0, 1] * 50)
    assert (grouped_low, grouped_high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="need as many"):
        mean_interval([], [])
