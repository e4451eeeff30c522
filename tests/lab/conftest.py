"""A small model that writes words."""

from __future__ import annotations

import pytest
from word_model import word_tokenizer

from emokernel import patch


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


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
