"""Training a patched model under torch.compile: the same gradients, without a graph break."""

from __future__ import annotations

import warnings

import pytest
import torch
from lab.learn.hooks import assert_equal_gradients, gradients
from torch import Tensor

from emokernel import patch


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
    torch.compiler.reset()


def loss_of(model, ids: Tensor) -> Tensor:
    return model(ids, labels=ids, use_cache=False).loss


def test_gradients_are_those_of_eager_mode(tiny, vectors, prompts):
    """With checkpointing, and whatever is asked for; a change before the backward pass is told."""
    model = tiny().train()
    steering = patch(model, vectors())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for emotion in ("joy", "anger"):
        steering.set(emotion, 1.5)
        loss_of(model, prompts).backward()
        expected = gradients(model)
        loss_of(compiled, prompts).backward()
        assert_equal_gradients(gradients(model), expected, 1e-6)
    # What is compiled reads the slots where they are, and torch sees that they were written.
    loss = loss_of(compiled, prompts)
    steering.set("joy", 3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
