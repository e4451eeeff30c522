"""Structures beside Llama's: those that are steered say what the reference says, others end.

The models are small and random: what counts is where they add and norm.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from real_vllm.cases import Case, assert_same_texts
from real_vllm.reference import Reference
from transformers import AutoConfig, AutoModelForCausalLM

from emokernel import EmotionVectors
from emokernel.errors import EmokernelError

LAYERS, WIDTH, VOCABULARY, STEPS = 3, 128, 96, 16
SIZES = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
LIKE_LLAMA = SIZES | {
    "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
LIKE_GPT2 = SIZES | {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4}
SCALED = LIKE_LLAMA | {"residual_multiplier": 0.22}
KINDS = (
    {}, {"emotion": "joy"}, {"emotion": {"joy": 0.6, "fear": 0.5}, "law": "add"},
    {"emotion": "fear", "positions": "generated"},
)  # fmt: skip


@pytest.fixture
def made(scratch):
    """``made(family, site)``: a random model in a folder, and vectors as long as its rows."""

    def made(family, site="attention"):
        torch.manual_seed(0)
        sizes = {"gpt2": LIKE_GPT2, "granite": SCALED}.get(family, LIKE_LLAMA)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
        for name, parameter in model.named_parameters():
            if "norm" in name:  # all ones would hide how a norm multiplies
                parameter.data.uniform_(0.5, 1.5)
        model.save_pretrained(scratch / family)
        tensors = {name: 0.2 * torch.randn(LAYERS, WIDTH) for name in ("joy", "fear")}
        vectors = EmotionVectors.from_tensors(tensors, site=site)
        vectors.save(file := scratch / f"{family}-{site}.safetensors")
        emotions = {"vectors": str(file)}
        return SimpleNamespace(folder=scratch / family, vectors=vectors, emotions=emotions)

    return made


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "gemma"])
def test_like_llama(engines, made, family, site):
    model, generator = made(family, site), torch.Generator().manual_seed(1)
    prompts = torch.randint(3, VOCABULARY, (4, 9), generator=generator).tolist()
    cases = [Case(prompt, **kind) for prompt in prompts for kind in KINDS]
    expected = Reference(model.folder, model.vectors).texts(cases, STEPS)
    engine = engines(model, model.emotions, skip_tokenizer_init=True)
    assert_same_texts(engine.texts(cases, STEPS), expected, cases)


@pytest.mark.parametrize("family", ["gpt2", "olmo2", "granite"])
def test_others(engines, made, family):
    """LayerNorm; norms behind branches; branches that are scaled before they are added."""
    model = made(family)
    with pytest.raises(EmokernelError, match=r"cannot be steered|no decoder|no RMSNorm"):
        engines(model, model.emotions, skip_tokenizer_init=True)
