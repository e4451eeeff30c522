"""Hooks that were there before patching and change rows: the proofs compare what there was then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from patch.oracle import first, hooked, replaced
from torch import Tensor, nn

from emokernel import patch

STRETCH = torch.linspace(0.5, 1.5, 64)


def on_blocks(model: nn.Module, hook: Callable) -> None:
    for block in model.model.layers:
        block.register_forward_pre_hook(hook)


def returning(model: nn.Module) -> None:
    on_blocks(model, lambda _, args: (args[0] * STRETCH, *args[1:]))


def writing(model: nn.Module) -> None:
    def hook(_: nn.Module, args: tuple) -> None:
        args[0].mul_(STRETCH)

    on_blocks(model, hook)


def writing_before_norms(model: nn.Module) -> None:
    def hook(_: nn.Module, args: tuple) -> None:
        args[0].mul_(STRETCH)

    for norm in (model.model.norm, *(block.input_layernorm for block in model.model.layers)):
        norm.register_forward_pre_hook(hook)


def writing_around_a_block(model: nn.Module) -> None:
    class Wrapper(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.block(*args, **kwargs).mul_(STRETCH)

    model.model.layers[1] = Wrapper(model.model.layers[1])


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("fuse_norm", [True, False])
@pytest.mark.parametrize(
    "touch", [returning, writing, writing_before_norms, writing_around_a_block]
)
def test_hooks_that_change_rows_leave_a_model_that_can_be_patched(
    touch, fuse_norm, tiny, vectors, prompts
):
    model, alone = tiny(), tiny()
    for each in (model, alone):
        touch(each)
    steering = patch(model, vectors("block"), law="add", fuse_norm=fuse_norm)
    torch.testing.assert_close(logits(model, prompts), logits(alone, prompts), rtol=1e-4, atol=1e-5)
    steering.set("joy", 2.0)
    blocks = [getattr(block, "block", block) for block in alone.model.layers]
    adding = [
        (block, lambda _, __, output, row=row: replaced(output, first(output) + 2.0 * row))
        for block, row in zip(blocks, vectors("block")["joy"], strict=True)
    ]
    with hooked(*adding):
        wanted = logits(alone, prompts)
    torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-4)
