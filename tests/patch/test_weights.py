"""What is derived from weights follows them, also where torch counts no writes to them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from emokernel import patch

# Of these norms the kernels are given another form of the weight (nemotron: weight + 1), the weight
# itself, or the weight and the bias.
FAMILIES = ["nemotron", "llama", "gpt2"]


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if "norm" in type(m).__name__.lower()]


def in_place(parameter: nn.Parameter, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def in_inference_mode(parameter: nn.Parameter, value: Tensor) -> None:
    with torch.inference_mode():
        parameter.copy_(value)


def through_data(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.data.copy_(value)


def by_other_memory(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.data = value.clone()


def past_torch(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.detach().numpy()[...] = value.numpy()


WRITES = [in_place, in_inference_mode, through_data, by_other_memory, past_torch]


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(ids, use_cache=False).logits.clone()


def assert_follows(model: nn.Module, plain: nn.Module, change: Callable, ids: Tensor) -> None:
    """``change`` does the same to the patched model and to one that is not."""
    before = logits(model, ids)
    for each in (model, plain):
        change(each)
    after = logits(model, ids)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, logits(plain, ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_norms_are_those_of_now(family, write, tiny, vectors, prompts):
    model, plain = tiny(family), tiny(family)
    patch(model, vectors("block"), site="block")

    def change(each: nn.Module) -> None:
        generator = torch.Generator().manual_seed(3)
        for norm in norms(each):
            for parameter in norm.parameters():
                write(parameter, torch.rand(parameter.shape, generator=generator) - 0.5)

    assert_follows(model, plain, change, prompts)
    assert_follows(model, plain, change_again(write), prompts)


def change_again(write: Callable) -> Callable:
    def change(each: nn.Module) -> None:
        for norm in norms(each):
            for parameter in norm.parameters():
                write(parameter, parameter.detach() * -2.0)

    return change


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_made_in_inference_mode_are_those_of_now(family, tiny, vectors, prompts):
    """Torch counts no writes to them at all."""
    with torch.inference_mode():
        model = copy.deepcopy(tiny(family))
        plain = copy.deepcopy(model)
        assert next(model.parameters()).is_inference()
        patch(model, vectors("block"), site="block")
        assert_follows(model, plain, change_again(in_inference_mode), prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_that_are_replaced_are_those_of_now(family, tiny, vectors, prompts):
    model, plain = tiny(family), tiny(family)
    patch(model, vectors("block"), site="block")

    def change(each: nn.Module) -> None:
        for norm in norms(each):
            norm.weight = nn.Parameter(norm.weight.detach() * 3.0 + 0.1)

    assert_follows(model, plain, change, prompts)
    state = {name: value * 0.7 for name, value in plain.state_dict().items()}
    assert_follows(model, plain, lambda each: each.load_state_dict(state, assign=True), prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_eps_of_a_norm_is_that_of_now(family, tiny, vectors, prompts):
    model, plain = tiny(family), tiny(family)
    patch(model, vectors("block"), site="block")

    def change(each: nn.Module) -> None:
        for norm in norms(each):
            name = "variance_epsilon" if family == "llama" else "eps"
            setattr(norm, name, 0.5)

    assert_follows(model, plain, change, prompts)


def test_a_cast_is_followed_where_a_tool_has_replaced_a_module(tiny, vectors, prompts):
    """Its old weight, which is no part of the model any more, keeps its dtype."""
    model = tiny()
    steering = patch(model, vectors("block"), site="block", law="add")
    steering.set("joy", 1.0)
    for block in model.model.layers:
        own = block.self_attn.q_proj
        block.self_attn.q_proj = nn.Sequential(copy.deepcopy(own))
    expected = logits(model, prompts)
    model.to(torch.bfloat16)
    torch.testing.assert_close(logits(model, prompts).float(), expected, rtol=5e-2, atol=5e-2)


def test_a_module_of_another_dtype_is_no_cast_of_the_model(tiny, vectors, prompts):
    """Tools keep some layers in fp32 within a model in bf16."""

    class Wide(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.weight = nn.Parameter(linear.weight.float())

        def forward(self, rows: Tensor) -> Tensor:
            return (rows.float() @ self.weight.T).to(rows.dtype)

    model = tiny(dtype=torch.bfloat16)
    patch(model, vectors("block"), site="block").set("joy", 0.5)
    before = logits(model, prompts)
    for block in model.model.layers:
        block.self_attn.q_proj = Wide(block.self_attn.q_proj)
    torch.testing.assert_close(logits(model, prompts), before, rtol=5e-2, atol=5e-2)


def test_an_eps_that_cannot_be_told_from_another_number_is_that_of_now(tiny, vectors, prompts):
    model, plain = tiny(), tiny()
    for each in (model, plain):
        for norm in norms(each):
            norm.another = norm.variance_epsilon
    patch(model, vectors("block"), site="block")

    def change(each: nn.Module) -> None:
        for norm in norms(each):
            norm.variance_epsilon = 0.5

    assert_follows(model, plain, change, prompts)
