"""Which list of modules is the decoder's: wrappers, lists registered twice, stale configs."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
from patch.oracle import first, hooked, replaced
from torch import Tensor, nn
from transformers import PreTrainedModel

from emokernel import EmotionVectors, patch
from emokernel.errors import ModelStructureError
from emokernel.lab.measure.fingerprint import fingerprint
from emokernel.patch.decoder import find_decoder


class Wrapper(nn.Module):
    """Stands in the place of a block, as other tools put it there; ``change``: what it does."""

    def __init__(self, block: nn.Module, change: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.block, self.change = block, change

    def forward(self, *args: object, **kwargs: object) -> object:
        output = self.block(*args, **kwargs)
        return output if self.change is None else replaced(output, self.change(first(output)))


def blocks_of(model: PreTrainedModel) -> nn.ModuleList:
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def by_hooks(model: PreTrainedModel, ids: Tensor, rows: Tensor) -> Tensor:
    """With ``rows[layer]`` added to what each block returns, within whatever is around it."""
    blocks = [block.block if isinstance(block, Wrapper) else block for block in blocks_of(model)]
    adding = [
        (block, lambda _, __, output, row=row: replaced(output, first(output) + row))
        for block, row in zip(blocks, rows, strict=True)
    ]
    with hooked(*adding):
        return logits(model, ids)


def wrapped(model: PreTrainedModel, layers: tuple[int, ...], change: object = None) -> None:
    blocks = blocks_of(model)
    for layer in layers:
        blocks[layer] = Wrapper(blocks[layer], change)


CHANGES = {
    "nothing": None,
    "scaled rows": lambda rows: rows * 0.5,
    "added to": lambda rows: rows + torch.linspace(-1, 1, 64),
}


@pytest.mark.parametrize("fuse_norm", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("layers", [(1,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_a_wrapper_in_the_place_of_a_block_is_steered_as_by_hooks(
    family, layers, change, fuse_norm, tiny, vectors, prompts
):
    model = tiny(family)
    wrapped(model, layers, CHANGES[change])
    emotions, alone = vectors("block"), copy.deepcopy(model)
    steering = patch(model, emotions, law="add", fuse_norm=fuse_norm)
    plain = logits(alone, prompts)
    torch.testing.assert_close(logits(model, prompts), plain, rtol=1e-4, atol=1e-5)
    steering.set("joy", 2.0)
    wanted = by_hooks(alone, prompts, 2.0 * emotions["joy"])
    torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted, plain, atol=1e-2)
    steering.unpatch()
    assert torch.equal(logits(model, prompts), plain)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("site", ["attention", "block"])
def test_a_wrapper_may_be_taken_away_from_a_patched_model(site, change, tiny, vectors, prompts):
    """As its tool does in the end: the layer has to stay steered."""
    model, alone = tiny(), tiny()
    wrapped(model, (0, 2), CHANGES[change])
    handles = [patch(each, vectors(site), law="add") for each in (model, alone)]
    for layer in (0, 2):
        model.model.layers[layer] = model.model.layers[layer].block
    for steering in handles:
        steering.set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), logits(alone, prompts))
    handles[0].unpatch()
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))


def test_vectors_of_a_model_are_those_of_the_wrapped_model(tiny):
    model = tiny()
    wrapped(model, (0, 1, 2))
    assert fingerprint(model) == fingerprint(tiny())


def test_an_attention_branch_is_found_within_a_wrapper(tiny, vectors, prompts):
    model, alone = tiny(), tiny()
    wrapped(model, (0, 2))
    for each in (model, alone):
        patch(each, vectors(), law="add").set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), logits(alone, prompts), rtol=1e-4, atol=1e-5)


def test_wrappers_within_wrappers(tiny):
    model = tiny()
    blocks = tuple(model.model.layers)
    wrapped(model, (1,))
    wrapped(model, (1,))
    decoder, outer = find_decoder(model), model.model.layers[1]
    assert decoder.blocks == blocks
    assert decoder.wrappers == {outer, outer.block}


def test_a_compiled_block_within_a_wrapper_is_refused_by_name(tiny, vectors):
    model = tiny()
    model.model.layers[1] = Wrapper(torch.compile(model.model.layers[1], backend="eager"))
    with pytest.raises(ModelStructureError, match=r"wrapped by torch\.compile"):
        patch(model, vectors())


def taken_out(model: PreTrainedModel, layers: tuple[int, ...]) -> None:
    """Depth pruning that leaves the config alone."""
    kept = [block for index, block in enumerate(model.model.layers) if index not in layers]
    model.model.layers = nn.ModuleList(kept)


def rows_of(emotions: EmotionVectors, layers: int) -> EmotionVectors:
    return EmotionVectors.from_tensors(
        {name: emotions[name][:layers] for name in emotions.names}, site=emotions.site
    )


@pytest.mark.parametrize("layers", [(1,), (2,), (0, 1)], ids=str)
def test_blocks_taken_out_with_a_config_that_does_not_know(layers, tiny, vectors, prompts):
    model = tiny()
    taken_out(model, layers)
    emotions, alone = rows_of(vectors("block"), 3 - len(layers)), copy.deepcopy(model)
    steering = patch(model, emotions, law="add")
    assert len(steering.report().layers) == 3 - len(layers)
    steering.set("joy", 2.0)
    wanted = by_hooks(alone, prompts, 2.0 * emotions["joy"])
    torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-4)


def test_vectors_of_the_whole_model_do_not_fit_what_is_left_of_it(tiny, vectors):
    model = tiny()
    taken_out(model, (1,))
    with pytest.raises(ModelStructureError, match=r"they have 3 layers .* has 2 of width 64"):
        patch(model, vectors())


@pytest.mark.parametrize("count", [1, 2])
def test_more_blocks_than_the_config_says_are_refused(count, tiny, vectors):
    """transformers runs the first ones alone, and nothing says that this is meant."""
    model = tiny()
    model.config.num_hidden_layers = count
    told = f"holds 3 blocks, but its config.num_hidden_layers is {count}: set it"
    with pytest.raises(ModelStructureError, match=re.escape(told)):
        patch(model, vectors())


def test_several_lists_of_which_none_fits_are_told_with_their_lengths(tiny, vectors):
    model, other = tiny(), tiny()
    taken_out(other, (0,))
    model.other, model.config.num_hidden_layers = other.model, 7
    model.get_decoder = lambda: model
    told = r"found 0 lists of 7 blocks \(config.num_hidden_layers\) .* and lists of 3, 2; pass the"
    with pytest.raises(ModelStructureError, match=told):
        patch(model, vectors())


def same_list(model: PreTrainedModel) -> None:
    model.blocks = model.model.layers


def list_of_the_same(model: PreTrainedModel) -> None:
    model.blocks = nn.ModuleList(model.model.layers)


def some_of_them(model: PreTrainedModel) -> None:
    model.upper = model.model.layers[1:]


def in_a_helper(model: PreTrainedModel) -> None:
    model.helper = nn.Module()
    model.helper.blocks = model.model.layers


@pytest.mark.parametrize("register", [same_list, list_of_the_same, some_of_them, in_a_helper])
@pytest.mark.parametrize("pruned", [False, True])
def test_blocks_that_are_registered_twice_are_found_once(register, pruned, tiny, vectors, prompts):
    model, alone, emotions = tiny(), tiny(), vectors()
    if pruned:
        for each in (model, alone):
            taken_out(each, (0,))
        emotions = rows_of(emotions, 2)
    register(model)
    for each in (model, alone):
        patch(each, emotions, law="add").set("joy", 2.0)
    assert find_decoder(model).owner is model.model
    assert torch.equal(logits(model, prompts), logits(alone, prompts))
    with torch.no_grad():  # the decoder, called by itself
        own, others = (each.model(input_ids=prompts).last_hidden_state for each in (model, alone))
    assert torch.equal(own, others)


def test_a_residual_around_each_block_is_refused(tiny, vectors):
    """What a block returns is a branch of the stream there."""

    class Residual(nn.Module):
        attention_type = "full_attention"

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, rows: Tensor, **given: object) -> Tensor:
            return rows + self.inner(rows, **given)

    model = tiny()
    for layer, block in enumerate(list(model.model.layers)):
        model.model.layers[layer] = Residual(block)
    with pytest.raises(ModelStructureError, match="Residual adds what its block returns"):
        patch(model, vectors("block"))
