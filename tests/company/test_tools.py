"""Models that other tools have touched, before or after `patch`, compared with plain hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from company.tools import ONLY_AFTERWARDS, STRETCH, TOOLS, WIDTH, blocks_of, changed, wrap_blocks
from torch import Tensor, nn

from emokernel import Steering, patch
from emokernel.errors import ModelStructureError
from emokernel.replaced import ReplacedMethod

STRENGTH = 2.0
MODES = {
    "grad": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}
ORDERS = ("tool, patch", "patch, tool")
BOTH = [
    (name, order) for name in TOOLS for order in ORDERS
    if order == "patch, tool" or name not in ONLY_AFTERWARDS
]  # fmt: skip


def logits(model: nn.Module, ids: Tensor, mode: str = "no_grad") -> Tensor:
    with MODES[mode]():
        return model(input_ids=ids).logits.detach().clone()


def generated(model: nn.Module, ids: Tensor) -> Tensor:
    made = model.generate(
        input_ids=ids, max_new_tokens=4, do_sample=False, output_logits=True,
        return_dict_in_generate=True, eos_token_id=None,
    )  # fmt: skip
    return torch.stack(made.logits)


def hook_blocks(model: nn.Module, rows: Tensor) -> nn.Module:
    """The model with ``rows[layer]`` added to what each block returns."""
    for block, row in zip(blocks_of(model), rows, strict=True):
        block.register_forward_hook(lambda _, __, out, row=row: changed(out, lambda x: x + row))
    return model


def leftovers(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if any(isinstance(value, ReplacedMethod) for value in vars(module).values())
    ]


@pytest.fixture
def touched(tiny, vectors) -> Callable[..., tuple[nn.Module, Steering, Callable[[], None]]]:
    """``touched(tool, order, family, ...)``: (patched and touched, its handle, what undoes it)."""

    def make(tool: str, order: str, family: str, **options: object):
        model = tiny(family)
        undo = TOOLS[tool](model) if order == "tool, patch" else None
        steering = patch(model, vectors("block"), law="add", **options)
        return model, steering, undo or TOOLS[tool](model)

    return make


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize(
    ("family", "fuse_norm"), [("llama", True), ("llama", False), ("gpt2", True)]
)
@pytest.mark.parametrize(("tool", "order"), BOTH)
def test_together_they_compute_what_plain_hooks_do(
    tool, order, family, fuse_norm, tiny, vectors, prompts, touched
):
    """Ours is added within the block, so all that a tool does around it comes behind that."""
    model, steering, undo = touched(tool, order, family, fuse_norm=fuse_norm)
    alone, hooked = tiny(family), hook_blocks(tiny(family), STRENGTH * vectors("block")["joy"])
    undos = [undo, TOOLS[tool](alone), TOOLS[tool](hooked)]
    try:
        plain, steered = logits(alone, prompts), logits(hooked, prompts)
        for mode in MODES:
            close(logits(model, prompts, mode), plain)
        steering.set("joy", STRENGTH)
        for mode in MODES:
            close(logits(model, prompts, mode), steered)
        close(generated(model, prompts), generated(hooked, prompts))
        assert not torch.allclose(plain, logits(tiny(family), prompts), atol=1e-2)
        assert not torch.allclose(steered, plain, atol=1e-2)
    finally:
        for each in undos:
            each()


@pytest.mark.parametrize(("tool", "order"), BOTH)
def test_each_is_removed_without_the_other(tool, order, tiny, vectors, prompts, touched):
    """Unpatching leaves the tool's work, the end of the tool leaves ours, and the model is last."""
    untouched, alone = tiny(), tiny()
    undo_alone = TOOLS[tool](alone)
    with_tool = logits(alone, prompts)
    undo_alone()
    hooked = hook_blocks(tiny(), STRENGTH * vectors("block")["joy"])
    wanted, without = logits(hooked, prompts), logits(untouched, prompts)

    model, steering, undo = touched(tool, order, "llama")
    undo()
    steering.set("joy", STRENGTH)
    for mode in MODES:
        close(logits(model, prompts, mode), wanted)
    steering.unpatch()
    assert torch.equal(logits(model, prompts), without)
    assert not leftovers(model)

    model, steering, undo = touched(tool, order, "llama")
    try:
        steering.set("joy", STRENGTH)
        steering.unpatch()
        assert torch.equal(logits(model, prompts), with_tool)
        assert not leftovers(model)
    finally:
        undo()
    assert torch.equal(logits(model, prompts), without)
    patch(model, vectors("block")).unpatch()  # what was given back does not count as patched
    assert torch.equal(logits(model, prompts), without)


@pytest.mark.parametrize("tool", ONLY_AFTERWARDS)
def test_a_replaced_forward_of_a_block_is_refused_by_name(tool, tiny, vectors, prompts):
    model = tiny()
    undo = TOOLS[tool](model)
    before = logits(model, prompts)
    with pytest.raises(ModelStructureError, match="replaced the forward of LlamaDecoderLayer"):
        patch(model, vectors("block"))
    assert torch.equal(logits(model, prompts), before)
    undo()
    patch(model, vectors("block"))


def test_a_block_compiled_in_place_beside_a_tool(tiny, vectors, prompts):
    model, hooked = tiny(), hook_blocks(tiny(), STRENGTH * vectors("block")["joy"])
    steering = patch(model, vectors("block"), law="add")
    for each in (model, hooked):
        wrap_blocks(each, lambda rows: rows + torch.linspace(-1, 1, WIDTH))
    model.model.layers[1].compile(backend="eager")
    steering.set("joy", STRENGTH)
    close(logits(model, prompts), logits(hooked, prompts))


@pytest.mark.parametrize(
    "operator",
    [lambda rows: rows * STRETCH, lambda rows: rows.mul_(STRETCH)],
    ids=["new", "in place"],
)
def test_wrappers_that_do_nothing_yet_may_do_something_later(operator, tiny, vectors, prompts):
    """A model that a tool was given first, and told what to do after `patch`."""
    model, hooked = tiny(), hook_blocks(tiny(), STRENGTH * vectors("block")["joy"])
    for each in (model, hooked):
        wrap_blocks(each, None)
    steering = patch(model, vectors("block"), law="add")
    steering.set("joy", STRENGTH)
    assert "a ControlWrapper stands before it" in str(steering.report())
    for each in (model, hooked):
        each.model.layers[0].operator = operator
    for mode in MODES:
        close(logits(model, prompts, mode), logits(hooked, prompts, mode))
