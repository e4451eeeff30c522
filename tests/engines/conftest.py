"""Models, texts and requests for the tests of generation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import (
    CpmAntConfig,
    CpmAntForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from emokernel import EmotionVectors, Request, Steering, patch

PAD = 5  # not the models' pad token, whose embedding is zero: the law leaves zero rows alone anyway


@cache
def _other(family: str) -> PreTrainedModel:
    sizes = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "sliding_window": 4,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    if family == "sliding":
        model = MistralForCausalLM(MistralConfig(**sizes))
    elif family == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=16))
    elif family == "recurrent":
        model = MambaForCausalLM(
            MambaConfig(vocab_size=96, hidden_size=64, num_hidden_layers=3, pad_token_id=0)
        )
    elif family == "cpmant":
        model = CpmAntForCausalLM(
            CpmAntConfig(
                vocab_size=96, hidden_size=64, num_attention_heads=4, dim_head=16, dim_ff=128,
                num_hidden_layers=3, prompt_length=2,
            )
        )  # fmt: skip
    else:
        hybrid = {"use_sliding_window": True, "max_window_layers": 1}
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, **hybrid))
    return model.eval()


@pytest.fixture
def model_of(tiny) -> Callable[[str], PreTrainedModel]:
    """``model_of(family)``: a fresh small model that never ends a text by itself.

    "sliding": a window of 4 in every layer; "hybrid": in all layers but the first; "gemma2": in
    every other layer; "recurrent": no attention at all.
    """

    def make(family: str = "llama") -> PreTrainedModel:
        model = tiny(family) if family == "llama" else copy.deepcopy(_other(family))
        model.generation_config.eos_token_id = None
        return model

    return make


@pytest.fixture
def pair(model_of, vectors) -> Callable[..., tuple[PreTrainedModel, PreTrainedModel, Steering]]:
    """``pair(family)``: (a model, the same model patched at site "block", its handle)."""

    def make(family: str = "llama") -> tuple[PreTrainedModel, PreTrainedModel, Steering]:
        patched = model_of(family)
        return model_of(family), patched, patch(patched, vectors("block"))

    return make


@pytest.fixture
def emotions(vectors) -> EmotionVectors:
    """The vectors that ``pair`` patches with."""
    return vectors("block")


@pytest.fixture
def requests_at() -> Callable[[str], list[Request]]:
    """``requests_at(positions)``: one emotion, nothing, a mix that is added, a negative."""

    def make(positions: str) -> list[Request]:
        return [
            Request("joy", 4.0, positions=positions),
            Request(None),
            Request({"anger": 3.0, "sadness": 2.0}, law="add", positions=positions),
            Request("surprise", -3.0, positions=positions),
        ]

    return make


@pytest.fixture
def padded(prompts) -> Callable[[str], tuple[Tensor, Tensor]]:
    """``padded(side)``: ids and mask ``[4, 7]`` of prompts with 0, 2, 3 and 5 pads; "no": none."""

    def make(side: str = "left") -> tuple[Tensor, Tensor]:
        ids, mask = prompts.clone(), torch.ones_like(prompts)
        for row, count in enumerate((0, 2, 3, 5) if side != "no" else ()):
            ids[row, :count], mask[row, :count] = PAD, 0
        return (ids.flip(1), mask.flip(1)) if side == "right" else (ids, mask)

    return make
