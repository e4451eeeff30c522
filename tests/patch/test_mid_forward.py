"""What an add takes for granted, because it was so before: each is seen where it is not so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from patch.counting import counted
from torch import Tensor, nn

from emokernel import patch

ADD, FUSED = "add_steer", "add_steer_rms_norm"
SITE = 2  # the add behind the attention branch of block 1, of the six adds


def logits(model: nn.Module, ids: Tensor, mode: Callable = torch.no_grad) -> Tensor:
    with mode():
        return model(ids, use_cache=False).logits.clone()


def around_an_add(block: nn.Module, context: torch.autocast | torch.enable_grad) -> None:
    """Enter ``context`` before the first add of ``block``, and leave it behind its norm."""

    def enter(*_: object) -> None:
        context.__enter__()

    def leave(*_: object) -> None:
        context.__exit__(None, None, None)

    block.self_attn.register_forward_hook(enter)
    block.mlp.register_forward_pre_hook(leave)


@pytest.mark.parametrize(
    ("context", "operation"),
    [
        (lambda: torch.autocast("cpu", torch.bfloat16), ADD),
        (torch.enable_grad, ADD),
        (torch.inference_mode, FUSED),
    ],
    ids=["autocast", "gradients", "inference"],
)
def test_what_begins_within_a_forward_counts(context, operation, tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        steering = patch(model, vectors(), fuse_norm=fuse_norm)
        steering.set("joy", 0.5)
        around_an_add(model.model.layers[1], context())
        with counted(steering) as calls:
            results.append(logits(model, prompts))
    wanted = [FUSED] * 6
    wanted[SITE] = operation
    assert calls == wanted
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


class Strided(nn.Module):
    """Rows through which no one stride leads."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.transpose(0, 1).contiguous().transpose(0, 1)


class Shared(nn.Module):
    """The first row for all, which the add broadcasts."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:1, :1]


@pytest.mark.parametrize("operand", [Strided, Shared])
def test_operands_that_the_operation_refuses(operand, tiny, vectors, prompts):
    model, plain = tiny(), tiny()
    steering = patch(model, vectors("block"), site="block")
    for each in (model, plain):
        own = each.model.layers[1].mlp.down_proj
        each.model.layers[1].mlp.down_proj = nn.Sequential(own, operand())
    wanted = logits(plain, prompts)
    for _ in range(2):  # looked at from then on, and no more tried
        with counted(steering) as calls:
            torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-5)
    refused = [FUSED] * 6
    if operand is Shared:
        del refused[3]
    assert [call for call in calls if call != "steer"] == refused


def test_a_weight_of_another_dtype_is_seen(tiny, vectors, prompts):
    model, plain = tiny(), tiny()
    steering = patch(model, vectors("block"), site="block")
    wanted = logits(plain, prompts)
    for each in (model, plain):
        weight = each.model.layers[1].post_attention_layernorm.weight
        weight.data = weight.data.double()
        each.model.layers[1].mlp.double()
        each.model.layers[1].mlp.register_forward_hook(lambda _m, _a, output: output.float())
    torch.testing.assert_close(logits(model, prompts), logits(plain, prompts))
    weight = model.model.layers[1].post_attention_layernorm.weight
    weight.data = weight.data.float()
    model.model.layers[1].mlp.float()
    with counted(steering) as calls:
        torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-5)
    assert calls == [FUSED] * 6


def test_a_hook_in_a_dictionary_that_is_new_is_seen_while_the_model_runs(tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors("block"), site="block", fuse_norm=fuse_norm).set("joy", 0.5)
        logits(model, prompts)
        norm = model.model.layers[2].post_attention_layernorm
        norm._forward_pre_hooks = OrderedDict()

        def register(*_: object, norm=norm) -> None:
            norm.register_forward_pre_hook(lambda _m, args: args[0].detach().numpy().fill(0.5))

        model.model.layers[0].self_attn.register_forward_hook(register)
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_norms_are_fused_again_when_what_stood_there_is_gone(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"), site="block")
    norm, own = model.model.layers[1].post_attention_layernorm, [FUSED] * 6
    other = own.copy()
    other[SITE] = ADD

    def calls() -> list[str]:
        with counted(steering) as made:
            logits(model, prompts)
        return made

    assert calls() == own
    kind = type(norm)
    norm.__class__ = type("Other", (kind,), {"forward": lambda self, rows: rows})
    assert calls() == other
    handle = norm.register_forward_pre_hook(lambda *_: None)
    norm.__class__ = kind
    assert calls() == other
    handle.remove()
    assert calls() == own


def test_a_forward_replaced_in_the_class_of_a_block_that_is_not_steered(
    tiny, vectors, prompts, monkeypatch
):
    model = tiny()
    block = model.model.layers[1]

    class Other(type(block)):
        def forward(self, *args: object, **kwargs: object) -> Tensor:
            return super().forward(*args, **kwargs)

    block.__class__ = Other
    steering = patch(model, vectors("block"), site="block", layers=[0, 2])
    inherited = Other.forward
    with counted(steering) as calls:
        logits(model, prompts)
        assert calls == [FUSED] * 4
        calls.clear()
        monkeypatch.setattr(Other, "forward", lambda *args, **kw: inherited(*args, **kw))
        logits(model, prompts)
        assert calls == [FUSED, ADD, FUSED, FUSED]
