"""Likelihood as a loss: what it counts, and that learning lowers it."""

from __future__ import annotations

import pytest
import torch
from word_model import word_tokenizer, word_vectors

from emokernel import EmokernelError, Request, patch
from emokernel.lab.learn import Likelihood, learn_vectors

TEXTS = {
    "joy": [("w5 w6", " w7 w8 w9"), ("w6", " w7 w7")],
    "anger": [("w5 w6 w9 w4", " w10 w11"), ("w9", " w11 w10 w10")],
}


@pytest.fixture
def speaker(tiny):
    tokenizer = word_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = "w0", "w2"
    return tiny(), tokenizer


def losses_one_by_one(model, tokenizer, steering, texts) -> list[float]:
    """Of every own token and the one that ends the text, by hand."""
    found = []
    for name, pairs in texts.items():
        for context, text in pairs:
            before = tokenizer(context, add_special_tokens=False)["input_ids"]
            own = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            ids = torch.tensor([before + own])
            with torch.no_grad(), steering.requests([Request(name, 1.0)]):
                scores = model(input_ids=ids).logits[0].log_softmax(-1)
            found += [-scores[len(before) - 1 + n, token].item() for n, token in enumerate(own)]
    return found


def test_it_is_the_mean_over_the_tokens_of_all_texts(speaker):
    model, tokenizer = speaker
    steering = patch(model, word_vectors(model), law="add")
    loss = Likelihood(model, tokenizer, steering, TEXTS, batch=4)
    with steering.learning():
        value = loss(0)
    expected = losses_one_by_one(model, tokenizer, steering, TEXTS)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_a_text_that_was_cut_has_no_end(speaker):
    model, tokenizer = speaker
    steering = patch(model, word_vectors(model), law="add")
    whole, some = (Likelihood(model, tokenizer, steering, TEXTS, cut=cut) for cut in (None, 3))

    def ends(loss: Likelihood) -> int:
        return sum(text.ids[-1] == 2 for _, text in [loss._next() for _ in range(4)])

    assert ends(whole) == 4
    assert ends(some) == 2


def test_learning_makes_the_texts_likelier(speaker):
    model, tokenizer = speaker
    steering = patch(model, word_vectors(model), law="add")
    before = losses_one_by_one(model, tokenizer, steering, TEXTS)
    loss = Likelihood(model, tokenizer, steering, TEXTS, batch=4)
    learned = learn_vectors(
        steering, TEXTS, loss, steps=15, rate=0.3, keep_norms=False, progress=False
    )
    steering.unpatch()
    steering = patch(model, learned, law="add")
    after = losses_one_by_one(model, tokenizer, steering, TEXTS)
    assert sum(after) < 0.9 * sum(before)
    record = learned.provenance["learned"][-1]["made_from"]
    assert record["method"] == "likelihood"
    assert record["texts"] == {"joy": 2, "anger": 2}


def test_every_text_comes_before_any_comes_again(speaker):
    model, tokenizer = speaker
    steering = patch(model, word_vectors(model), law="add")
    loss = Likelihood(model, tokenizer, steering, {**TEXTS, "joy": TEXTS["joy"][:1]}, batch=2)
    drawn = [loss._next() for _ in range(4)]
    assert [name for name, _ in drawn].count("joy") == 2
    assert len({tuple(text.ids) for name, text in drawn if name == "anger"}) == 2


@pytest.mark.parametrize(
    ("texts", "more", "message"),
    [
        ({}, {}, "none of any"),
        ({"joy": []}, {}, "none of joy"),
        (TEXTS, {"requests": {"fear": Request("fear", 0.5)}}, "none of fear"),
        (TEXTS, {"batch": 0}, "got batch=0"),
    ],
)
def test_an_emotion_without_texts_is_refused(speaker, texts, more, message):
    model, tokenizer = speaker
    steering = patch(model, word_vectors(model), law="add")
    with pytest.raises(EmokernelError, match=message):
        Likelihood(model, tokenizer, steering, texts, **more)
