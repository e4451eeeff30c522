"""Every decoder family is patched to what independent hooks compute, or refused with the reason."""

from __future__ import annotations

import re

import pytest
import torch
from patch.families import ATTENTION_FAMILIES, FAMILIES, LAYERS, WIDTH, build, prompts
from patch.oracle import Steered, decoder_blocks, first, steered_logits_and_stream
from torch import Tensor
from transformers import PreTrainedModel

from emokernel import EmotionVectors, patch
from emokernel.errors import ModelStructureError

REFUSED = {
    "deepseek_v4": "more than one residual stream",
    "gemma3n_text": "more than one residual stream",
    "hy_v4": "more than one residual stream",
    "qwen4_exp_text": "no rows of width 64 (more than one residual stream?)",
}
# With a row behind the attention branch that the oracle does not know how to reach: a norm follows
# the add, or its residual is what a norm gave, or another attention branch comes behind it.
UNREACHED = {
    *("bart", "bert", "bert-generation", "big_bird", "blenderbot-small", "camembert", "electra"),
    *("data2vec-text", "ernie", "longcat_flash", "marian", "minimax", "mvp", "openai-gpt"),
    *("opt_post_norm", "plbart", "rembert", "roberta", "roformer", "trocr", "xlm-roberta"),
}
# Without a mask for padding of their own, or unable to run with one in this small form.
UNPADDED = ("bailing_hybrid", "cpmant", "deepseek_v2", "minicpm3", "rwkv")
PATCHED = [name for name in FAMILIES if name not in REFUSED]
# Steered without a norm in some of their layers: because the next branch reads the row itself, or
# because the block does something else after its last add.
READS_THE_ROW, AFTER_THE_ADD = "no norm reads the row", "does not return the result of an add"
UNFUSED = {
    **dict.fromkeys(("exaone4", "flex_olmo", "olmo2", "olmo3"), READS_THE_ROW),
    **dict.fromkeys(("olmo_hybrid", "zamba", "zamba2"), READS_THE_ROW),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text", "opt_post_norm"), AFTER_THE_ADD),
    **dict.fromkeys(("inkling2_text", "openai-gpt"), AFTER_THE_ADD),
    **dict.fromkeys(("bert", "bert-generation", "big_bird", "camembert"), AFTER_THE_ADD),
    **dict.fromkeys(("data2vec-text", "electra", "ernie", "rembert"), AFTER_THE_ADD),
    **dict.fromkeys(("roberta", "roformer", "xlm-roberta"), AFTER_THE_ADD),
    **dict.fromkeys(("bart", "blenderbot-small", "marian", "mvp"), AFTER_THE_ADD),
    **dict.fromkeys(("plbart", "trocr"), AFTER_THE_ADD),
}


def some_vectors(site: str) -> EmotionVectors:
    generator = torch.Generator().manual_seed(5)
    return EmotionVectors.from_tensors(
        {name: 0.3 * torch.randn(LAYERS, WIDTH, generator=generator) for name in ("joy", "anger")},
        site=site,
    )


def padded_prompts(name: str) -> tuple[Tensor, Tensor]:
    """Two sequences, the second with two tokens of padding on the left if the model can do that."""
    ids = prompts()
    mask = torch.ones_like(ids)
    if name not in UNPADDED:
        mask[1, :2] = 0
    return ids, mask


def run(model: PreTrainedModel, name: str, ids: Tensor, mask: Tensor) -> Steered:
    """The logits and the stream after each block of a model as it is."""
    streams: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, out: streams.append(first(out).detach().clone()))
        for block in decoder_blocks(model, FAMILIES[name])
    ]
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits
    for handle in handles:
        handle.remove()
    return Steered(logits, streams)


def assert_alike(got: Steered, expected: Steered, mask: Tensor) -> None:
    """At every token: what padding computes nobody reads."""
    assert len(got.streams) == len(expected.streams) == LAYERS
    for a, b in zip((*got.streams, got.logits), (*expected.streams, expected.logits), strict=True):
        a, b = a.view(*mask.shape, -1)[mask.bool()], b.view(*mask.shape, -1)[mask.bool()]
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4 * float(b.abs().max()))


def test_enough_families_are_patched_and_fused() -> None:
    assert len(PATCHED) >= 60
    assert len(set(PATCHED) - set(UNFUSED)) >= 50


@pytest.mark.parametrize("name", PATCHED)
def test_the_stream_is_that_of_a_hook_on_every_block(name: str) -> None:
    """Under both laws; every layer is fused or says why not."""
    ids, mask = padded_prompts(name)
    vectors, model = some_vectors("block"), build(name)
    expected = {
        law: steered_logits_and_stream(
            model, ids, mask, vectors["joy"], family=FAMILIES[name], law=law, weight=0.8
        )
        for law in ("add", "preserve")
    }
    steering = patch(model, vectors)
    for law, wanted in expected.items():
        steering.set("joy", 0.8, law=law)
        assert_alike(run(model, name, ids, mask), wanted, mask)
    layers = steering.report().layers
    reasons = {layer.not_fused for layer in layers} - {None}
    if name in UNFUSED:
        assert reasons
        assert all(UNFUSED[name] in reason for reason in reasons)
    else:
        assert not reasons
        assert all(layer.norm for layer in layers)


@pytest.mark.parametrize("name", [name for name in ATTENTION_FAMILIES if name not in REFUSED])
def test_the_row_after_attention_is_that_of_a_hook_on_the_branch(name: str) -> None:
    ids, mask = padded_prompts(name)
    vectors, model = some_vectors("attention"), build(name)
    expected = steered_logits_and_stream(
        model, ids, mask, vectors["joy"], family=FAMILIES[name], site="attention", weight=0.8
    )
    steering = patch(model, vectors, law="add")
    steering.set("joy", 0.8)
    assert_alike(run(model, name, ids, mask), expected, mask)


@pytest.mark.parametrize("name", PATCHED)
def test_nothing_set_and_nothing_fused_is_the_model_bit_for_bit(name: str) -> None:
    ids, mask = padded_prompts(name)
    model = build(name)
    before = run(model, name, ids, mask)
    patch(model, some_vectors("block"), fuse_norm=False)
    after = run(model, name, ids, mask)
    assert torch.equal(after.logits, before.logits)
    assert all(torch.equal(*pair) for pair in zip(after.streams, before.streams, strict=True))


@pytest.mark.parametrize("name", [name for name in PATCHED if name not in ATTENTION_FAMILIES])
def test_blocks_with_one_add_have_no_site_attention(name: str) -> None:
    if name in UNREACHED:
        patch(build(name), some_vectors("attention"))
        return
    with pytest.raises(ModelStructureError, match='use site="block"'):
        patch(build(name), some_vectors("attention"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_patched_is_refused_and_left_alone(name: str) -> None:
    model = build(name)
    before = {module: dict(vars(module)) for module in model.modules()}
    with pytest.raises(ModelStructureError, match=re.escape(REFUSED[name])):
        patch(model, some_vectors("block"))
    for module in model.modules():
        assert vars(module).keys() == before[module].keys()
