"""A small model with 32 emotions, and prompts of all lengths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from emokernel import EmotionVectors, Request, Steering, patch

EMOTIONS = [f"emotion {number}" for number in range(32)]


@pytest.fixture
def steered(model_of) -> Callable[..., tuple[PreTrainedModel, Steering]]:
    """``steered(family, slots)``: (a small model patched at site "block", its handle)."""

    def make(family: str = "llama", slots: int = 40, attention: str = "sdpa"):
        model = model_of(family)
        model.set_attn_implementation(attention)
        generator = torch.Generator().manual_seed(3)
        vectors = {name: torch.randn(3, 64, generator=generator) for name in EMOTIONS}
        return model, patch(model, EmotionVectors.from_tensors(vectors, site="block"), slots=slots)

    return make


@pytest.fixture
def texts() -> list[list[int]]:
    """32 prompts of 1 to 40 tokens."""
    generator = torch.Generator().manual_seed(4)
    lengths = [1, 2, 16, 17, 32, *torch.randint(1, 41, (27,), generator=generator).tolist()]
    return [torch.randint(3, 96, (length,), generator=generator).tolist() for length in lengths]


@pytest.fixture
def different() -> list[Request]:
    """32 requests, each for another emotion, at all positions in turn and by both laws."""
    positions = ("all", "prompt", "generated", "last")
    return [
        Request(name, 2.0 + number / 32, law=("preserve", "add")[number % 3 == 0],
                positions=positions[number % 4])
        for number, name in enumerate(EMOTIONS)
    ]  # fmt: skip
