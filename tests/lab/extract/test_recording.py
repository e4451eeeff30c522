"""Rows against a direct computation, one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emokernel import EmokernelError
from emokernel.errors import ModelStructureError
from emokernel.lab.extract.recording import Recorder
from emokernel.lab.measure.encoding import TokenizedText

SITES = ("attention", "block")


def samples(count=6):
    """Texts of 3 to 8 tokens; the first tokens, and one in the middle, are not their own."""
    generator = np.random.default_rng(3)
    found = []
    for length in generator.integers(3, 9, count):
        own = np.arange(length) > 0
        own[length // 2] = False
        found.append(TokenizedText(generator.integers(3, 96, length).astype(np.int32), own))
    return found


def recorded(model, texts, site, **options):
    with Recorder(model, site, **{"last": False, **options}) as recorder:
        return recorder.read(texts)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("site", SITES)
def test_rows_are_those_of_each_text_alone(site, last, tiny, activations):
    model, texts = tiny(), samples()
    rows, lengths = recorded(model, texts, site, last=last)
    assert rows.dtype == lengths.dtype == np.float32
    for number, text in enumerate(texts):
        own = np.flatnonzero(text.own)[-1:] if last else text.own
        ids = torch.from_numpy(text.ids)[None].long()
        expected = activations(model, ids, site)[:, own].double().mean(1)
        np.testing.assert_allclose(rows[:, number], expected, rtol=1e-4, atol=1e-5)
        stream = activations(model, ids, "after attention" if site == "attention" else site)
        norms = stream[:, own].double().norm(dim=-1).mean(1)
        np.testing.assert_allclose(lengths[:, number], norms, rtol=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_chosen_layers_are_those_of_all(site, tiny):
    model, texts = tiny(), samples()
    rows, lengths = recorded(model, texts, site)
    some_rows, some_lengths = recorded(model, texts, site, layers=[0, 2])
    np.testing.assert_array_equal(some_rows, rows[[0, 2]])
    np.testing.assert_array_equal(some_lengths, lengths[[0, 2]])


@pytest.mark.parametrize("site", SITES)
def test_the_model_runs_no_further_than_the_highest_chosen_layer(site, tiny):
    model, ran = tiny(), []
    for layer, block in enumerate(model.model.layers):
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    with Recorder(model, site, layers=[1], last=False) as recorder:
        ran.clear()
        recorder.read(samples())
        assert ran == [0, 1]
        ran.clear()
        model(input_ids=torch.ones(1, 3, dtype=torch.long))  # as somebody else's call
        assert ran == [0, 1, 2]


@pytest.mark.parametrize("site", SITES)
def test_sums_of_a_bfloat16_model_are_fp32(site, tiny, activations):
    model, texts = tiny(dtype=torch.bfloat16), samples(1)
    texts = [TokenizedText(np.resize(texts[0].ids, 100), np.ones(100, bool))]
    rows, _ = recorded(model, texts, site)
    ids = torch.from_numpy(texts[0].ids)[None].long()
    expected = activations(model, ids, site).double().mean(1)
    np.testing.assert_allclose(rows[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "gemma", "olmo2", "qwen3"])
def test_other_families_at_both_sites(family, tiny):
    model, texts = tiny(family), samples()
    for site in SITES:
        together, _ = recorded(model, texts, site)
        alone, _ = recorded(model, texts[2:3], site)
        np.testing.assert_allclose(together[:, 2:3], alone, rtol=1e-3, atol=1e-5)
        assert np.abs(together).max() > 1e-3


def test_a_parallel_block_has_no_attention_site(tiny):
    with pytest.raises(ModelStructureError, match='site="block"'):
        Recorder(tiny("phi"), "attention", last=False)


@pytest.mark.parametrize("site", SITES)
def test_the_model_is_as_it_was_afterwards(site, tiny, prompts):
    model = tiny()
    model.train()
    before = model(prompts).logits

    def fail_while_reading():
        with Recorder(model, site, last=False) as recorder:
            assert not model.training
            recorder.read(samples())
            raise InterruptedError("on the way")

    with pytest.raises(InterruptedError, match="on the way"):
        fail_while_reading()
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(model(prompts).logits, before)


@pytest.mark.parametrize("site", SITES)
def test_a_layer_that_is_not_finite_is_named(site, tiny):
    model = tiny()
    model.model.layers[1].self_attn.o_proj.weight.data[3] = torch.inf
    with pytest.raises(EmokernelError, match="layer 1 hold inf or nan"):
        recorded(model, samples(), site)
