"""Small random models of every structure that the tests patch."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

# One of several workers has one core. Said before torch and numpy make their threads, and inductor
# its processes.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

# What distributes tests imports this file too, and needs neither torch nor transformers.
if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from emokernel import EmotionVectors

LAYERS, WIDTH, VOCABULARY = 3, 64, 96
EMOTIONS = ("anger", "joy", "sadness", "surprise")

_FAMILIES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gpt2": "GPT2",
    "nemotron": "Nemotron",
    "olmo2": "Olmo2",
    "phi": "Phi",
}


@cache
def _model(family: str, dtype: torch.dtype) -> PreTrainedModel:
    import torch
    import transformers

    name = _FAMILIES[family]
    config = getattr(transformers, f"{name}Config")
    kind = getattr(transformers, f"{name}LMHeadModel" if family == "gpt2" else f"{name}ForCausalLM")
    sizes = (
        {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4}
        if family == "gpt2"
        else {
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
    )
    if family in ("qwen3", "gemma"):
        sizes["head_dim"] = 16
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = kind(config(vocab_size=VOCABULARY, max_position_embeddings=128, **sizes, **special))
    for name, parameter in model.named_parameters():
        if "norm" in name:  # all ones (or zeros) would hide how a norm multiplies
            parameter.data.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., PreTrainedModel]:
    """``tiny(family, dtype)``: a fresh copy of a small random model in eval mode."""
    import torch

    def make(family: str = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return copy.deepcopy(_model(family, dtype))

    return make


@pytest.fixture(scope="session")
def vectors() -> Callable[..., EmotionVectors]:
    """``vectors(site)``: four emotions for the small models, about as long as their rows."""
    import torch

    from emokernel import EmotionVectors

    def make(site: str = "attention", scale: float = 0.2) -> EmotionVectors:
        generator = torch.Generator().manual_seed(1)
        return EmotionVectors.from_tensors(
            {name: scale * torch.randn(LAYERS, WIDTH, generator=generator) for name in EMOTIONS},
            site=site,
        )

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch has one thread until the test ends."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def prompts() -> torch.Tensor:
    """Token ids ``[4, 7]`` without special tokens."""
    import torch

    return torch.randint(3, VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(2))
