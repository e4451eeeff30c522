"""Blocks that are taken out or replaced after patching: nothing stays unsteered in silence."""

from __future__ import annotations

import copy
import re
import types
import warnings

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from emokernel import EmotionVectors, patch
from emokernel.errors import SteeringError


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def copied(model: PreTrainedModel) -> None:
    model.model.layers[1] = copy.deepcopy(model.model.layers[1])


def taken_out(model: PreTrainedModel) -> None:
    model.model.layers = nn.ModuleList([model.model.layers[0], model.model.layers[2]])


def repeated(model: PreTrainedModel) -> None:
    """As PEFT's ``layer_replication``: copies of the blocks, in a list of their own."""
    layers = [copy.deepcopy(model.model.layers[index]) for index in (0, 1, 1, 2)]
    model.model.layers = nn.ModuleList(layers)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("replace", [copied, taken_out, repeated])
def test_a_steered_block_that_is_gone_is_an_error(replace, compiled, tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors("block")).set("joy")
    kept = model.model.layers
    logits(model, prompts)
    replace(model)
    run = torch.compile(model, backend="eager") if compiled else model
    with pytest.raises(Exception, match="is no longer a part of LlamaModel") as error:
        logits(run, prompts)
    assert compiled or isinstance(error.value, SteeringError)
    if replace is not copied:
        model.model.layers = kept
        logits(model, prompts)


def test_a_block_that_is_not_steered_may_go(tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors("block"), layers=[0, 2]).set("joy")
    taken_out(model)
    logits(model, prompts)


def test_a_block_may_be_wrapped_and_unwrapped(tiny, vectors, prompts):
    class Wrapper(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.block(*args, **kwargs)

    model = tiny()
    patch(model, vectors("block")).set("joy")
    wanted, block = logits(model, prompts), model.model.layers[1]
    for standing in (Wrapper(block), torch.compile(block, backend="eager"), block):
        model.model.layers[1] = standing
        torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-5)


def test_what_was_pruned_is_patched_again(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"))
    taken_out(model)
    steering.unpatch()
    rows = EmotionVectors.from_tensors({"joy": vectors("block")["joy"][[0, 2]]}, site="block")
    patch(model, rows).set("joy")
    logits(model, prompts)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("lost", [[1], [2], [0, 1, 2]])
def test_a_forward_that_leaves_ours_out_is_told_once(lost, wrapped, tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors("block")).set("joy")
    for layer in lost:
        block = model.model.layers[layer]
        block.forward = types.MethodType(type(block).forward, block)  # of its class, past ours
        if wrapped:
            inner = block.forward
            block.forward = lambda *args, inner=inner, **kwargs: inner(*args, **kwargs)
    with pytest.warns(UserWarning, match=f"layers {re.escape(str(lost))} were not steered"):
        logits(model, prompts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits(model, prompts)


def test_what_steers_every_layer_warns_of_nothing(tiny, vectors, prompts):
    """Wrapped, compiled in place, left before the end, trained: none of it loses a layer."""
    model = tiny()
    patch(model, vectors("block")).set("joy")
    inner = model.model.layers[1].forward
    model.model.layers[1].forward = lambda *args, **kwargs: inner(*args, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits(model, prompts)
        model.model.layers[0].compile(backend="eager")
        for _ in range(2):
            logits(model, prompts)
        model.config.num_hidden_layers = 2  # as early exit does
        logits(model, prompts)
