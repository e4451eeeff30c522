"""Blocks that are taken out or replaced after patching: nothing stays unsteered in silence."""

from __future__ import annotations

import copy

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
