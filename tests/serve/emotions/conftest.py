"""The embedded model, patched once, with the routes of emotions around it."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")


@pytest.fixture(scope="session")
def embedded():
    """(model, tokenizer, steering)."""
    from emokernel import patch
    from emokernel.demo.model import load_model
    from emokernel.demo.vectors import load_vectors

    model, tokenizer = load_model()
    return model, tokenizer, patch(model, load_vectors(), slots=8)


@pytest.fixture
def served(embedded):
    from serve.emotions.served import Served

    made = Served(*embedded)
    yield made
    assert made.free
