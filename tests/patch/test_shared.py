"""One module at two places of a model: each has what is its own, or it is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from patch.oracle import hooked
from torch import nn
from transformers import BloomConfig, BloomForCausalLM

from emokernel import EmotionVectors, patch
from emokernel.errors import ModelStructureError
from emokernel.lab.extract.recording import Recorder


def shared_blocks(model):
    first, second, _ = model.model.layers
    model.model.layers = nn.ModuleList([first, second, second])
    return model


def shared_parts():
    """The adds of a bloom are in its attention and its MLP."""
    torch.manual_seed(0)
    config = BloomConfig(hidden_size=64, n_layer=3, n_head=4, vocab_size=96)
    model = BloomForCausalLM(config).eval()
    model.transformer.h[2].mlp = model.transformer.h[1].mlp
    model.transformer.h[2].self_attention = model.transformer.h[1].self_attention
    return model


@pytest.mark.parametrize("layers", [None, [0], [2]])
@pytest.mark.parametrize("site", ["attention", "block"])
def test_a_block_at_two_places_is_refused(site, layers, tiny, vectors):
    model = shared_blocks(tiny())
    with pytest.raises(ModelStructureError, match=r"blocks 1 and 2 .* one shared Llama"):
        patch(model, vectors(site), site=site, layers=layers)
    assert not any("forward" in vars(module) for module in model.modules())
    model.model.layers[2] = copy.deepcopy(model.model.layers[2])
    patch(model, vectors(site), site=site, layers=layers)


@pytest.mark.parametrize("layers", [None, [1]])
def test_a_part_with_adds_in_two_blocks_is_refused_where_one_is_steered(layers):
    vectors = EmotionVectors.from_tensors({"joy": torch.randn(3, 64)}, site="block")
    with pytest.raises(ModelStructureError, match="shared by two blocks"):
        patch(shared_parts(), vectors, layers=layers)
    patch(shared_parts(), vectors, layers=[0])


@pytest.mark.parametrize("site", ["attention", "block"])
def test_recording_refuses_shared_blocks(site, tiny):
    with pytest.raises(ModelStructureError, match="blocks 1 and 2"):
        Recorder(shared_blocks(tiny()), site, last=False)


def test_recording_refuses_shared_parts():
    with pytest.raises(ModelStructureError, match="shared by two blocks"):
        Recorder(shared_parts(), "attention", layers=[1], last=False)


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("part", ["input_layernorm", "post_attention_layernorm", "mlp"])
def test_norms_and_parts_without_adds_may_be_shared(part, site, tiny, vectors, prompts):
    model = tiny()
    first, *others = model.model.layers
    for block in others:
        setattr(block, part, getattr(first, part))
    if part == "input_layernorm":
        model.model.norm = first.input_layernorm
    reference = copy.deepcopy(model)
    asked = vectors("block")
    pairs = [
        (block, lambda _m, _a, out, layer=layer: out + asked["joy"][layer])
        for layer, block in enumerate(reference.model.layers)
    ]
    with torch.no_grad():
        with hooked(*pairs):
            expected = reference(prompts).logits
        plain = reference(prompts).logits
        steering = patch(model, asked, site="block", law="add")
        if site == "attention":
            steering.unpatch()
            steering = patch(model, vectors(site), site=site)
        torch.testing.assert_close(model(prompts).logits, plain, rtol=1e-4, atol=1e-5)
        if site == "block":
            steering.set("joy")
            torch.testing.assert_close(model(prompts).logits, expected, rtol=1e-4, atol=1e-5)
