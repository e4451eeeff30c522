"""A small model that writes words, and a judge that counts them."""

from __future__ import annotations

import pytest
from word_model import WordJudge, word_tokenizer

from emokernel import patch
from emokernel.affect import Coordinates
from emokernel.lab.calibrate.points import Setting
from emokernel.lab.measure.sampling import Sampling


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


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
