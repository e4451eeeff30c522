"""Topic adherence on the embedded model, and what no model may change about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from word_model import word_tokenizer

from emokernel import patch
from emokernel.demo.model import load_model, openings
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.topic import HiddenStates, Topic
from emokernel.lab.measure.sampling import Sampling, sample

OPENINGS = openings()[:30]
KEYS = [(opening, seed) for seed in range(3) for opening in OPENINGS]


def by_model(model, tokenizer, answers) -> Topic:
    return Topic(HiddenStates(model, tokenizer), answers, centred=True)


@pytest.fixture(scope="module")
def embedded():
    return load_model()


@pytest.fixture(scope="module")
def answers(embedded) -> list[str]:
    """What the model writes behind each opening under three seeds."""
    model, tokenizer = embedded
    contexts = [tokenizer(opening)["input_ids"] for opening, _ in KEYS]
    seeds = [(seed, OPENINGS.index(opening)) for opening, seed in KEYS]
    return tokenizer.batch_decode(sample(model, tokenizer, contexts, Sampling(24), seeds=seeds))


@pytest.fixture(scope="module")
def topic(embedded, answers) -> Topic:
    return by_model(*embedded, dict(zip(KEYS, answers, strict=True)))


def test_answers_under_another_seed_are_nearer_than_those_to_another_opening(topic):
    found = topic.anchors()
    assert found["separation"] > 0.6
    assert found["other_seed"] > found["other_query"] + 0.1
    assert abs(found["other_query"]) < 0.05


def test_the_same_answer_is_as_near_as_can_be(topic, answers):
    to_answers, to_queries = topic.adherence(answers, KEYS)
    np.testing.assert_allclose(to_answers, 1, atol=1e-5)
    assert np.abs(to_queries).max() <= 1
    # A text that repeats the opening is about it.
    asked = [opening for opening, _ in KEYS[:30]]
    _, repeated = topic.adherence(asked, KEYS[:30])
    assert (repeated > to_queries[:30]).mean() > 0.9


def test_a_text_counts_by_itself_whatever_is_read_with_it(topic, answers):
    mixed = ["I like the dog.", answers[3], "It is", ""]
    together = topic.adherence(mixed, [KEYS[0]] * 4)
    for number, text in enumerate(mixed):
        alone = topic.adherence([text], [KEYS[0]])
        np.testing.assert_allclose(alone, [[of[number]] for of in together], atol=1e-5)
    assert [of[3] for of in together] == [0, 0]
    # The seed says which answer, the query is the same.
    other = topic.adherence(mixed, [KEYS[30]] * 4)
    np.testing.assert_allclose(other[1], together[1])
    assert np.abs(other[0] - together[0])[:3].min() > 1e-3


@settings(max_examples=10, deadline=None)
@given(st.text("abc .'?", max_size=40))
def test_any_text_is_within_bounds(topic, text):
    for values in topic.adherence([text], [KEYS[0]]):
        assert values.shape == (1,)
        assert -1 <= values[0] <= 1


def test_empty_answers_are_left_out_and_too_few_are_told(embedded):
    filled = by_model(*embedded, {("a", 0): "Oh no.", ("b", 0): "Yes it is.", ("b", 1): ""})
    with pytest.raises(EmokernelError, match="two queries or more, and two seeds or more"):
        filled.anchors()
    assert filled.adherence(["Oh no."], [("b", 1)])[0].tolist() == [0]
    with pytest.raises(EmokernelError, match="answers nothing"):
        by_model(*embedded, {("a", 0): " ", ("b", 0): ""})


def test_by_hand(tiny):
    """Directions of all tokens alike, after two thirds of the blocks, less what all share."""
    model, texts = tiny(), ["w5 w6 w7", "w8", "w9 w10"]
    rows = []
    for text in texts:
        ids = torch.tensor([[int(word[1:]) for word in text.split()]])
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[2][0]
        rows.append((hidden / hidden.norm(dim=-1, keepdim=True)).mean(0))
    first, second, third = torch.stack(rows) - torch.stack(rows[:2]).mean(0)
    plain = {("w1", 0): texts[0], ("w2", 0): texts[1]}
    found, _ = by_model(model, word_tokenizer(), plain).adherence([texts[2]] * 2, list(plain))
    expected = [torch.cosine_similarity(third, each, dim=0).item() for each in (first, second)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_any_decoder_also_a_patched_one(family, tiny, vectors):
    model, tokenizer = tiny(family), word_tokenizer()
    plain = {("w4", 0): "w5 w6", ("w4", 1): "w5 w7 w8", ("w9", 0): "w7 w5 w10", ("w9", 1): "w11"}
    asked = ["w5 w10", "w7"], [("w4", 0), ("w9", 1)]
    before = by_model(model, tokenizer, plain).adherence(*asked)
    assert np.abs(before).min() > 1e-3
    patch(model, vectors("block"))
    after = by_model(model, tokenizer, plain).adherence(*asked)
    np.testing.assert_allclose(before, after, atol=1e-4)
