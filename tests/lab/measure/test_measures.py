"""Measures against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emokernel.affect import Coordinates
from emokernel.lab.measure.classifiers import affect_of
from emokernel.lab.measure.fluency import (
    distinct_n,
    exponential,
    looping,
    perplexity,
    repetition,
    surprises,
)
from emokernel.lab.measure.intervals import mean_interval, rank_correlation, ratio_interval


def test_distinct_n_counts_over_all_texts():
    assert distinct_n(["a b c d"]) == 1.0
    assert distinct_n(["a b c", "A, b c!"]) == 0.5
    assert distinct_n(["it's so", "it's so"], n=2) == 0.5
    assert distinct_n(["a b", ""]) == 0.0


def test_distinct_n_of_languages_without_spaces():
    assert distinct_n(["今日は晴れ"], n=3) == 1.0
    assert distinct_n(["ははははは", "ははは"], n=3) == 0.25
    assert distinct_n(["go 今日 go"], n=2) == 1.0


def test_repetition_is_the_share_of_n_grams_that_a_text_has_had_before():
    # Five 4-grams, of which "a b a b" stands there twice and "b a b a" twice.
    assert repetition(["a b A b, a b a b"]) == pytest.approx(3 / 5)
    assert repetition(["a b a b a b a b", "a b c d", "a", ""]) == pytest.approx(3 / 20)
    assert repetition(["a a a"], n=1) == pytest.approx(2 / 3)
    assert repetition(["go home", "go home"], n=2) == 0.0
    with pytest.raises(ValueError, match="no text"):
        repetition([])


def test_rank_correlation_is_spearmans():
    assert rank_correlation([0, 1, 2, 3], [0.1, 0.2, 0.25, 0.9]) == pytest.approx(1)
    assert rank_correlation([0, 1, 2, 3], [0.4, 0.3, 0.2, -9]) == pytest.approx(-1)
    # 1 - 6 sum(d^2) / (n (n^2 - 1)), one neighbouring pair swapped.
    assert rank_correlation([0, 1, 2, 3], [0.1, 0.3, 0.2, 0.4]) == pytest.approx(0.8)
    assert rank_correlation([0, 1, 2], [0.5, 0.5, 0.5]) == 0.0
    with pytest.raises(ValueError, match="two or more"):
        rank_correlation([1], [1])


def words(text: str) -> tuple[PreTrainedTokenizerFast, dict[str, int]]:
    """A tokenizer that knows the words of a text, and their ids."""
    vocabulary = {"<pad>": 0, **{word: n + 1 for n, word in enumerate(text)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left"
    )
    return fast, vocabulary


class _Reticent(torch.nn.Module):
    """A model that cannot leave logits out, as some of others cannot."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config
        self.get_input_embeddings = model.get_input_embeddings

    def forward(self, input_ids, attention_mask, use_cache):
        return self.model(input_ids, attention_mask=attention_mask, use_cache=use_cache)


@pytest.mark.parametrize("keeps", [True, False])
def test_surprises_are_of_each_text_behind_long_and_short_contexts(tiny, keeps):
    tokenizer, vocabulary = words("abcdefgh")
    model = tiny("gemma")
    pairs = [("a b c d e", " f g"), ("a b c", " d e f g h"), ("", "a"), ("a", ""), ("h", " a b")]
    expected = []
    for context, text in pairs:
        ids = torch.tensor([[vocabulary[word] for word in (context + text).split()]])
        with torch.no_grad():
            log_p = model(ids).logits[0].log_softmax(-1)
        first = max(1, len(context.split()))
        expected.append(sum(-log_p[n - 1, ids[0, n]].item() for n in range(first, ids.shape[1])))
    read = model if keeps else _Reticent(model)
    for size in (1, 2, 5):
        nats, tokens = surprises(read, tokenizer, pairs, batch_size=size)
        assert nats.tolist() == pytest.approx(expected, rel=1e-4)
        assert tokens.tolist() == [2, 5, 0, 0, 2]


def test_surprises_leave_out_the_logits_of_the_context(tiny, monkeypatch):
    tokenizer, _ = words("abcdefgh")
    model = tiny()
    sizes = []
    head = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: sizes.append(x.shape[1]) or head(x))
    surprises(model, tokenizer, [("a b c d e", " f g"), ("a b c d", " e f g")])
    assert sizes == [4]


def test_perplexity_is_that_of_the_text_given_its_context(tiny):
    fast, vocabulary = words("abcdefgh")
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
    assert perplexity(model, fast, pairs) == pytest.approx(expected, rel=1e-4)
    assert perplexity(model, fast, pairs[2:]) == perplexity(model, fast, []) == math.inf


def test_affect_of_certain_labels():
    labels = ["neutral", "sadness", "joy"]
    table = Coordinates.named("russell")
    points = affect_of(torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0.5, 0, 0.5]]), labels, table)
    joy = torch.tensor([math.cos(math.radians(7.8)), math.sin(math.radians(7.8))])
    torch.testing.assert_close(points, torch.stack([torch.zeros(2), joy, joy / 2]))


def test_interval_respects_groups():
    mean, low, high = mean_interval([0.0] * 50 + [1.0] * 50, range(100))
    assert mean == 0.5
    assert 0.38 < low < 0.43 < 0.57 < high < 0.62
    _, grouped_low, grouped_high = mean_interval([0.0, 1.0] * 50, [0, 1] * 50)
    assert (grouped_low, grouped_high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="need as many"):
        mean_interval([], [])


def test_a_ratio_of_means_is_of_the_groups_that_are_drawn():
    values, others = [1.0, 2.0, 3.0, 6.0], [2.0, 4.0, 4.0, 8.0]
    ratio, low, high = ratio_interval(values, others, "aabb")
    assert ratio == pytest.approx(12 / 18)
    assert (low, high) == pytest.approx((0.5, 0.75))
    assert ratio_interval(values, [1.0] * 4, "aabb") == mean_interval(values, "aabb")
    with pytest.raises(ValueError, match="need as many"):
        ratio_interval(values, others[:3], "aabb")
    assert all(map(math.isnan, ratio_interval(values, [0.0] * 4, "aabb")))


def test_a_text_that_says_one_sentence_again_and_again_loops_though_few_ngrams_of_all_are_lost():
    said = " ".join(f"a{n}" for n in range(10))
    rest = " ".join(f"b{n}" for n in range(10))
    thrice, twice = f"{said} {said} {said}", f"{said} {said} {rest}"
    assert looping([thrice]) == 1
    assert looping([twice, rest]) == 0
    others = [" ".join(f"c{text}x{n}" for n in range(30)) for text in range(19)]
    assert looping([thrice, *others]) == 1 / 20
    assert distinct_n([thrice, *others]) > 0.9
    with pytest.raises(ValueError, match="no text"):
        looping([])


def test_a_perplexity_too_large_for_a_number_is_infinite():
    assert exponential(2.0) == pytest.approx(math.exp(2.0))
    assert exponential(1e4) == exponential(math.inf) == math.inf
