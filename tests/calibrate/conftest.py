"""A small model that writes words, and a judge that counts them."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emokernel import patch
from emokernel.affect import Coordinates
from emokernel.calibrate.measure import Setting
from emokernel.sampling import Sampling


class WordJudge:
    """Each emotion is the share of words of its own; a quarter of the vocabulary for each."""

    name, multi_label = "words", False
    labels = ("anger", "joy", "sadness", "surprise", "neutral")

    def probabilities(self, texts):
        rows = torch.zeros(len(texts), 5)
        for row, text in enumerate(texts):
            words = [int(word[1:]) for word in text.split() if word[1:].isdigit()]
            for word in words:
                rows[row, word % 4] += 1 / len(words)
            if not words:
                rows[row, 4] = 1
        return rows

    def digest(self):
        return "words"


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {f"w{n}": n for n in range(96)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def judge():
    return WordJudge()


@pytest.fixture(scope="module")
def model(tiny):
    """With distributions that are not flat."""
    model = tiny()
    model.lm_head.weight.data *= 30
    return model


@pytest.fixture
def patched(model):
    """``patched(vectors)``: the model's Steering, undone after the test."""
    made = []

    def patch_with(vectors, **options):
        made.append(patch(model, vectors, **options))
        return made[-1]

    yield patch_with
    for steering in made:
        steering.unpatch()


@pytest.fixture(scope="module")
def setting(model, tokenizer, judge):
    prompts = tuple(("", f"w{n} w{n + 1} w{n + 2}") for n in range(20, 36))
    return Setting(
        model, tokenizer, judge, prompts, Sampling(8), True, Coordinates.named("russell"), {}
    )
