"""A fingerprint tells models apart, and the same model in another dtype not."""

from __future__ import annotations

import json

import pytest
import torch

from emokernel import EmokernelError
from emokernel.lab.measure.fingerprint import fingerprint, same_model


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_the_same_checkpoint_in_any_dtype_is_the_same_model(family, tiny):
    one = fingerprint(tiny(family, torch.bfloat16))
    assert same_model(one, fingerprint(tiny(family, torch.bfloat16).float()))
    assert same_model(one, fingerprint(tiny(family)))
    assert same_model(json.loads(json.dumps(one)), one)
    assert (one["layers"], one["hidden_size"], one["vocab_size"]) == (3, 64, 96)


@pytest.mark.parametrize(
    "name",
    [
        "embed_tokens",
        "layers.0.self_attn.q_proj",
        "layers.1.mlp.up_proj",
        "layers.2.input_layernorm",
    ],
)
def test_other_weights_are_another_model(name, tiny):
    model, other = tiny(), tiny()
    other.model.get_submodule(name).weight.data *= 1.5
    assert not same_model(fingerprint(model), fingerprint(other))


def test_another_kind_or_size_is_another_model(tiny):
    llama = fingerprint(tiny())
    assert not same_model(llama, fingerprint(tiny("qwen2")))
    for key in ("layers", "hidden_size", "vocab_size"):
        assert not same_model(llama, {**llama, key: 7})


def test_weights_that_only_one_of_them_can_read_do_not_count(tiny):
    whole = fingerprint(tiny())
    quantised = {**whole, "weights": {n: h for n, h in whole["weights"].items() if "norm" in n}}
    assert 0 < len(quantised["weights"]) < len(whole["weights"])
    assert same_model(whole, quantised)
    assert same_model(quantised, whole)
    with pytest.raises(EmokernelError, match="no readable weights in common"):
        same_model(whole, {**whole, "weights": {}})


def test_weights_on_the_meta_device_are_left_out(tiny):
    model = tiny()
    model.model.layers[0].to("meta")
    found = fingerprint(model)
    assert found["weights"]
    assert not any(name.startswith("0.") for name in found["weights"])
    assert same_model(found, fingerprint(tiny()))
