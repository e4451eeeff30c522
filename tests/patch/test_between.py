"""Norms computed ahead are of the rows that reach them: others may write to those on their way."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from patch.counting import counted
from torch import Tensor, nn

from emokernel import patch, steering_of
from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.extract.recording import Recorder
from emokernel.patch import decoder_forward
from emokernel.patch.surroundings import Way

EXTRA = torch.linspace(-1.0, 1.0, 64)


def add_in_place(rows: Tensor) -> None:
    rows += EXTRA


def add_uncounted(rows: Tensor) -> None:
    """As a kernel of somebody else's would: torch does not count it."""
    rows.detach().numpy()[...] += EXTRA.numpy()


class Wrapper(nn.Module):
    """Another tool's module in the place of one of the model's."""

    def __init__(self, inner: nn.Module, write: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.inner, self.write = inner, write

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> object:
        self.write(hidden_states)
        return self.inner(hidden_states, *args, **kwargs)


def wrap_forward(module: nn.Module, write: Callable[[Tensor], None]) -> None:
    inner = module.forward

    def replaced(hidden_states: Tensor, *args: object, **kwargs: object) -> object:
        write(hidden_states)
        return inner(hidden_states, *args, **kwargs)

    module.forward = replaced


def wrap_output(module: nn.Module, write: Callable[[Tensor], None]) -> None:
    inner = module.forward

    def replaced(*args: object, **kwargs: object) -> object:
        output = inner(*args, **kwargs)
        write(output)
        return output

    module.forward = replaced


def in_forward_of_block(model, write):
    wrap_forward(model.model.layers[1], write)


def behind_forward_of_block(model, write):
    wrap_output(model.model.layers[0], write)


def in_forward_of_norm(model, write):
    wrap_forward(model.model.layers[1].input_layernorm, write)


def in_forward_of_inner_norm(model, write):
    wrap_forward(model.model.layers[1].post_attention_layernorm, write)


def in_forward_of_last_norm(model, write):
    wrap_forward(model.model.norm, write)


def in_place_of_block(model, write):
    model.model.layers[1] = Wrapper(model.model.layers[1], write)


def in_place_of_norm(model, write):
    block = model.model.layers[1]
    block.post_attention_layernorm = Wrapper(block.post_attention_layernorm, write)


def in_another_list(model, write):
    model.model.layers = nn.ModuleList(Wrapper(block, write) for block in model.model.layers)


def by_a_hook(model, write):
    model.model.layers[0].register_forward_hook(lambda _m, _a, output: write(output))


def by_a_pre_hook(model, write):
    model.model.layers[1].input_layernorm.register_forward_pre_hook(lambda _m, a: write(a[0]))


def by_a_hook_of_accelerate(model, write):
    hooks = pytest.importorskip("accelerate.hooks")

    class Writing(hooks.ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            write(args[0])
            return args, kwargs

    hooks.add_hook_to_module(model.model.layers[1], Writing())


PLACES = [
    in_forward_of_block, behind_forward_of_block, in_forward_of_norm, in_forward_of_inner_norm,
    in_forward_of_last_norm, in_place_of_block, in_place_of_norm, in_another_list, by_a_hook,
    by_a_pre_hook, by_a_hook_of_accelerate,
]  # fmt: skip


def logits(model: nn.Module, ids: Tensor, mode: Callable = torch.no_grad) -> Tensor:
    with mode():
        return model(ids, use_cache=False).logits.clone()


@pytest.mark.parametrize(
    ("write", "mode"),
    [(add_in_place, torch.inference_mode), (add_uncounted, torch.no_grad)],
)
@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("place", PLACES)
def test_what_others_write_to_rows_on_their_way_counts(
    place, site, write, mode, tiny, vectors, prompts
):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors(site), site=site, fuse_norm=fuse_norm).set("joy", 0.5)
        before = logits(model, prompts, mode)
        place(model, write)
        results.append(logits(model, prompts, mode))
        assert not torch.allclose(results[-1], before, atol=1e-2)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_the_report_tells_what_stands_between(place, tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"), site="block")
    before = str(steering.report())
    assert "other add does not compute" not in before
    assert "norm not fused" not in before
    place(model, add_in_place)
    obstacles = ("replaced the forward of", "was replaced", "may change the rows")
    assert any(obstacle in str(steering.report()) for obstacle in obstacles)
    steered = [layer for layer in steering.report().layers if layer.norm is None]
    inner = [layer for layer in steering.report().layers if layer.also_not]
    assert steered or inner
    assert all(layer.operation == "add_steer" and layer.not_fused for layer in steered)


def test_writes_that_torch_counts_are_seen_wherever_they_come_from(
    tiny, vectors, prompts, monkeypatch
):
    monkeypatch.setattr(Way, "look_at_modules", lambda _: None)
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors("block"), site="block", fuse_norm=fuse_norm).set("joy", 0.5)
        in_forward_of_block(model, add_in_place)
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_only_the_norms_behind_a_foreign_forward_are_computed_anew(mode, tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"), site="block")
    with counted(steering) as calls:
        logits(model, prompts, mode)
        assert calls == ["add_steer_rms_norm"] * 6
        calls.clear()
        own = model.model.layers[1].forward
        in_forward_of_block(model, add_in_place)
        logits(model, prompts, mode)
        into, out_of = 1, 3  # the adds at the ends of block 0 and of block 1
        assert [i for i, call in enumerate(calls) if call == "add_steer"] == [into, out_of]
        calls.clear()
        model.model.layers[1].forward = own  # as a tool does that is removed again
        logits(model, prompts, mode)
        assert calls == ["add_steer_rms_norm"] * 6


def test_hooks_that_move_rows_between_devices_are_no_obstacle(tiny, vectors, prompts):
    hooks = pytest.importorskip("accelerate.hooks")
    model = tiny()
    steering = patch(model, vectors("block"), site="block")
    for part in (model.model.layers[1], model.model.norm):
        hooks.add_hook_to_module(part, hooks.AlignDevicesHook("cpu"))
    with counted(steering) as calls:
        logits(model, prompts)
        assert calls == ["add_steer_rms_norm"] * 6


@pytest.mark.parametrize("part", ["layers.1", "layers.1.input_layernorm", ""])
def test_a_forward_replaced_in_a_class_is_told(part, tiny, vectors, prompts, monkeypatch):
    model = tiny()
    steering = patch(model, vectors())
    kind = type(model.model.get_submodule(part))
    own = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *args, **kwargs: own(self, *args, **kwargs))
    with pytest.raises(SteeringError, match=f"forward of {kind.__name__} in its class"):
        logits(model, prompts)
    monkeypatch.undo()
    logits(model, prompts)
    steering.unpatch()


def test_a_patched_model_is_known_whatever_wraps_its_forward(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    wrap_forward(model.model, lambda _: None)
    assert steering_of(model) is steering
    with pytest.raises(EmokernelError, match=r"call unpatch\(\)"):
        Recorder(model, "block", last=False)
    steering.unpatch()
    with pytest.raises(SteeringError, match="is not patched"):
        steering_of(model)


def cleared_hooks(model):
    """As snippets do that are to remove all hooks: every module has other dictionaries then."""
    for module in model.modules():
        module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
    by_a_hook(model, add_in_place)


def appended(model):
    class Writer(nn.Module):
        attention_type = "full_attention"

        def forward(self, rows: Tensor, *_: object, **__: object) -> Tensor:
            add_in_place(rows)
            return rows

    model.model.layers.append(Writer())
    model.config.num_hidden_layers = len(model.model.layers)
    model.config.layer_types = ["full_attention"] * len(model.model.layers)


@pytest.mark.parametrize("change", [cleared_hooks, appended])
def test_what_stands_between_is_looked_up_by_name(change, tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors("block"), site="block", fuse_norm=fuse_norm).set("joy", 0.5)
        logits(model, prompts, torch.inference_mode)
        change(model)
        results.append(logits(model, prompts, torch.inference_mode))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["input_layernorm", "post_attention_layernorm"])
def test_a_norm_that_something_wrapped_before_is_left_alone(part, tiny, vectors, prompts):
    """It may do nothing while the model is patched, and something later."""
    results, on = [], []
    for fuse_norm in (False, True):
        model = tiny()
        norm = model.model.layers[1].get_submodule(part)
        inner = norm.forward
        norm.forward = lambda rows, inner=inner: inner(rows) * (2.0 if on else 1.0)
        on.clear()
        patch(model, vectors("block"), site="block", fuse_norm=fuse_norm).set("joy", 0.5)
        on.append(True)
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_a_norm_outside_of_the_decoder_is_computed_ahead_too(tiny, vectors, prompts):
    model = tiny()
    norm, head = model.model.norm, model.lm_head
    model.model.norm, model.lm_head = nn.Identity(), nn.Sequential(norm, head)
    plain = logits(model, prompts)
    steering = patch(model, vectors("block"), site="block")
    assert steering.report().layers[-1].norm == "lm_head.0"
    torch.testing.assert_close(logits(model, prompts), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("when", ["while the model runs", "before a captured call"])
def test_hooks_that_come_late_are_seen(when, tiny, vectors, prompts, monkeypatch):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        steering = patch(model, vectors("block"), site="block", fuse_norm=fuse_norm)
        steering.set("joy", 0.5)
        norm, late = model.model.layers[2].post_attention_layernorm, []

        def register(*_: object, norm=norm, late=late) -> None:
            if not late:
                late.append(norm.register_forward_pre_hook(lambda _m, a: add_in_place(a[0])))

        if when == "while the model runs":
            model.model.layers[0].register_forward_hook(register)
            results.append(logits(model, prompts, torch.inference_mode))
            continue
        monkeypatch.setattr(decoder_forward, "is_captured", lambda _: False)
        monkeypatch.setattr(decoder_forward, "can_be_captured", lambda _: True)
        logits(model, prompts)
        register()
        with monkeypatch.context() as captured:
            captured.setattr(decoder_forward, "is_captured", lambda _: True)
            results.append(logits(model, prompts, torch.inference_mode))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_the_report_tells_of_a_block_that_is_gone(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors("block"), site="block")
    del model.model.layers[2]
    last = steering.report().layers[2]
    assert "replaced" in last.not_fused or "taken out" in last.not_fused
    assert "was replaced" in last.also_not
    with pytest.raises(SteeringError, match=r"block 2 .* is no longer a part"):
        logits(model, prompts)


def test_what_a_removed_hook_held_is_let_go(tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors("block"), site="block")
    held = nn.Linear(1, 1)
    kept = weakref.ref(held)
    handle = model.model.layers[0].register_forward_hook(lambda *_, held=held: None)
    logits(model, prompts)
    handle.remove()
    del held, handle
    gc.collect()
    assert kept() is None
