"""A sentence encoder on a small random model: what a text becomes, alone and among others."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from emokernel.lab.evaluate.topic import Topic
from emokernel.lab.measure.sentences import SentenceEncoder, load_encoder

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the is dog cat house happy angry here".split()
TEXTS = ["the dog is happy", " ", "the cat is angry " * 30, "here", "the dog is here"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with an encoder of the structure of the true one, and random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    built = Tokenizer(models.WordLevel({word: n for n, word in enumerate(MARKS + WORDS)}, "[UNK]"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    marks = dict(zip(names, MARKS, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=built, **marks).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.5,
    )).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def encoder(base):
    return SentenceEncoder(*load_encoder(base), "small")


def test_a_text_is_the_mean_of_its_tokens_at_length_one(base, encoder):
    model, tokenizer = load_encoder(base)
    rows = encoder(TEXTS)
    assert rows.dtype == np.float64
    for text, row in zip(TEXTS, rows, strict=True):
        if not text.strip():
            assert not row.any()
            continue
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, mean / mean.norm(), atol=1e-5)
    assert encoder([]).shape == (0, 16)


def test_a_text_is_the_same_among_others(encoder):
    alone = np.concatenate([encoder([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder(TEXTS), alone, atol=1e-5)
    assert np.abs(encoder(TEXTS)[0] - encoder(TEXTS)[4]).max() > 0.01


def test_topic_by_sentences_is_their_cosine_with_nothing_taken_away(encoder):
    plain = {("the dog", 0): TEXTS[0], ("the cat", 0): TEXTS[2]}
    topic = Topic(encoder, plain)
    to_unsteered, to_query = topic.adherence([TEXTS[4], ""], list(plain))
    rows = encoder([TEXTS[4], TEXTS[0], "the dog"])
    assert (to_unsteered[0], to_query[0]) == pytest.approx((rows[0] @ rows[1], rows[0] @ rows[2]))
    assert (to_unsteered[1], to_query[1]) == (0, 0)


def test_it_is_fetched_by_the_name_of_its_weights(base, monkeypatch):
    weights = types.ModuleType("emokernel.weights")
    weights.fetched, weights.identity = {"small": base}.__getitem__, "title of {}".format
    monkeypatch.setitem(sys.modules, "emokernel.weights", weights)
    encoder = SentenceEncoder.fetched("small")
    assert encoder.name == "title of small"
    assert encoder(["here"]).shape == (1, 16)
