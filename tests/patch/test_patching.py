"""Patching leaves the model itself as it was, in every respect that is not asked for."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from emokernel import EmokernelError, EmotionVectors, patch, steering_of
from emokernel.errors import ModelStructureError, SteeringError
from emokernel.numerics import MAX_RMS_NORM_ULP, ulp_distance
from emokernel.ops import select
from emokernel.patch.norms import norm_arguments, probe_norm
from emokernel.state import DeviceState

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def logits(model, ids, **kwargs):
    with torch.no_grad():
        return model(ids, **kwargs).logits


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_nothing_set_without_fusion_has_the_bits_of_the_model(
    family, dtype, site, tiny, vectors, prompts
):
    model = tiny(family, dtype)
    before = logits(model, prompts)
    patch(model, vectors(site), fuse_norm=False)
    assert torch.equal(logits(model, prompts), before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_set_with_fusion_is_the_model_up_to_its_norm(family, dtype, tiny, vectors, prompts):
    model = tiny(family, dtype)
    before = logits(model, prompts)
    steering = patch(model, vectors())
    assert all(layer.not_fused is None for layer in steering.report().layers)
    after = logits(model, prompts)
    # A norm within 2 ulp moves a logit by little; a wrong cast, weight or eps by much more.
    scale = before.float().abs().max()
    limit = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    assert (after.float() - before.float()).abs().max() <= limit * scale


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_fused_norm_agrees_with_the_module(family, dtype, tiny, vectors):
    module = tiny(family, dtype).model.layers[1].post_attention_layernorm
    norm = probe_norm(module, 64, dtype)
    state = DeviceState(vectors().tensor, 2, torch.device("cpu"), dtype)
    x, residual = torch.randn(2, 50, 64, dtype=dtype).unbind()
    basis, *slots = state.tables[1]
    tables = (basis, state.constant_rows(50, -1), *slots)
    with torch.no_grad():
        arguments = norm_arguments(norm, vars(module), x)
        normed, stream = select("cpu").add_steer_rms_norm(x, residual, *arguments, *tables)
        wanted = module(stream)
    assert torch.equal(stream, x + residual)
    assert ulp_distance(normed, wanted).max() <= MAX_RMS_NORM_ULP[dtype]


def test_unpatch_restores_everything(tiny, vectors, prompts):
    model = tiny()
    before, state_dict = logits(model, prompts), dict(model.state_dict())
    attributes = {module: dict(vars(module)) for module in model.modules()}
    steering = patch(model, vectors())
    steering.set("joy")
    assert list(model.state_dict()) == list(state_dict)
    assert not torch.equal(logits(model, prompts), before)
    steering.unpatch()
    steering.unpatch()
    assert torch.equal(logits(model, prompts), before)
    for module in model.modules():
        assert vars(module).keys() == attributes[module].keys()
        assert all(value is attributes[module][name] for name, value in vars(module).items())
    with pytest.raises(SteeringError, match="unpatched"):
        steering.set("joy")


def test_pickles_are_not_patched_and_can_be(tiny, vectors, prompts):
    model = tiny()
    before = logits(model, prompts)
    steering = patch(model, vectors(), fuse_norm=False)
    steering.set("anger", 3.0)
    other = pickle.loads(pickle.dumps(model))
    assert torch.equal(logits(other, prompts), before)
    with pytest.raises(SteeringError, match="not patched"):
        steering_of(other)
    patch(other, vectors()).set("joy")
    assert not torch.equal(logits(other, prompts), before)
    steering.off()
    assert torch.equal(logits(model, prompts), before)


@pytest.mark.parametrize("used_first", [True, False])
def test_a_deep_copy_is_patched_with_slots_of_its_own(used_first, tiny, vectors, prompts):
    model = tiny()
    unsteered = logits(model, prompts)
    steering = patch(model, vectors())
    steering.set("anger", 3.0)
    steered = logits(model, prompts)
    other = copy.deepcopy(model)
    if used_first:
        assert torch.equal(logits(other, prompts), steered)
    steering.off()
    assert torch.equal(logits(other, prompts), steered)
    assert steering_of(model) is steering
    assert steering_of(other) is not steering
    steering_of(other).set("joy")
    assert not torch.equal(logits(other, prompts), steered)
    torch.testing.assert_close(logits(model, prompts), unsteered, rtol=1e-5, atol=1e-6)
    steering_of(other).unpatch()
    assert torch.equal(logits(other, prompts), unsteered)
    twice = copy.deepcopy(copy.deepcopy(model))
    assert steering_of(twice).report() == steering.report()


def test_a_deep_copy_of_a_part_is_not_patched(tiny, vectors, prompts):
    model = tiny()
    with torch.no_grad():
        before = model.model(prompts).last_hidden_state
    patch(model, vectors()).set("anger", 3.0)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(model.model)(prompts).last_hidden_state, before)


def test_saved_model_is_the_unpatched_one(tiny, vectors, prompts, tmp_path):
    model = tiny()
    before = logits(model, prompts)
    patch(model, vectors()).set("joy")
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(type(model).from_pretrained(tmp_path).eval(), prompts), before)


def test_two_models_do_not_know_of_each_other(tiny, vectors, prompts):
    one, other = tiny(), tiny()
    before = logits(one, prompts)
    patch(one, vectors()).set("joy")
    patch(other, vectors(), fuse_norm=False)
    assert torch.equal(logits(other, prompts), before)
    assert not torch.equal(logits(one, prompts), before)


def test_hidden_states_show_the_steered_stream(tiny, vectors, prompts):
    model = tiny()
    captured = model(prompts, output_hidden_states=True).hidden_states
    steering = patch(model, vectors("block"), layers=[1], law="add")
    steering.set("joy", strength=2.0)
    with torch.no_grad():
        steered = model(prompts, output_hidden_states=True).hidden_states
    assert torch.equal(steered[1], captured[1])
    expected = captured[2] + 2.0 * vectors("block")["joy"][1]
    torch.testing.assert_close(steered[2], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("captured_first", [False, True])
def test_attentions_are_those_of_the_steered_stream(captured_first, tiny, vectors, prompts):
    model, hooked = tiny(), tiny()
    for each in (model, hooked):
        each.set_attn_implementation("eager")
    vector = 2.0 * vectors("block")["joy"][0]
    if captured_first:
        logits(model, prompts, output_attentions=True)
    patch(model, vectors("block"), layers=[0], law="add").set("joy", 2.0)
    hooked.model.layers[0].register_forward_hook(lambda _, __, output: output + vector)
    with torch.no_grad():
        before = hooked(prompts, output_attentions=True).attentions
        after = model(prompts, output_attentions=True).attentions
    assert len(after) == len(before) == 3
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    plain = tiny()
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        assert not torch.allclose(plain(prompts, output_attentions=True).attentions[1], after[1])


def test_what_the_user_holds_is_never_written_to(tiny, vectors, prompts):
    model = tiny()
    embeds = model.get_input_embeddings()(prompts).detach()
    kept = embeds.clone()
    steering = patch(model, vectors())
    steering.set("joy", 2.0)
    with torch.inference_mode():
        states = model(inputs_embeds=embeds, output_hidden_states=True).hidden_states
    held = [state.clone() for state in states]
    with torch.inference_mode():
        model(inputs_embeds=embeds)
    assert torch.equal(embeds, kept)
    assert torch.equal(states[0], kept)
    assert all(torch.equal(*pair) for pair in zip(states, held, strict=True))


def first_input(module, run):
    """What ``module`` was given first while ``run()`` ran."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    run()
    handle.remove()
    return seen[0]


def test_attention_site_adds_to_the_row_after_the_attention_branch(tiny, vectors, prompts):
    model = tiny()
    block = model.model.layers[1]
    stream = first_input(block.post_attention_layernorm, lambda: logits(model, prompts))
    patch(model, vectors(), layers=[1], law="add").set("joy")
    mlp_input = first_input(block.mlp, lambda: logits(model, prompts))
    with torch.no_grad():
        expected = block.post_attention_layernorm(stream + vectors()["joy"][1])
    torch.testing.assert_close(mlp_input, expected, rtol=1e-5, atol=1e-5)


def test_preserve_keeps_the_norm_of_every_row(tiny, vectors, prompts):
    model = tiny()
    with torch.no_grad():
        before = model(prompts, output_hidden_states=True).hidden_states[2]
    patch(model, vectors("block"), layers=[1]).set("anger", 5.0)
    with torch.no_grad():
        after = model(prompts, output_hidden_states=True).hidden_states[2]
    assert not torch.allclose(after, before, rtol=0.1)
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=1e-5, atol=0)


def test_hooks_on_the_fused_norm_still_run(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set("joy")
    fused = logits(model, prompts)
    calls = []
    model.model.layers[0].post_attention_layernorm.register_forward_hook(
        lambda *args: calls.append(1)
    )
    torch.testing.assert_close(logits(model, prompts), fused, rtol=1e-4, atol=1e-5)
    assert calls == [1]


@pytest.mark.parametrize("site", ["attention", "block"])
def test_fused_and_unfused_steer_alike(site, tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny("gemma")
        patch(model, vectors(site), fuse_norm=fuse_norm).set("joy", 2.0)
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_norms_run_with_the_add_before_them(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors(), layers=[0, 1])
    assert [layer.also_fused for layer in steering.report().layers] == [
        "model.layers.1.input_layernorm",
        "model.layers.2.input_layernorm",
    ]
    ran = []
    for name, module in model.named_modules():
        if "norm" in name:
            patched = vars(module).get("forward")
            own = getattr(patched, "original", module.forward)
            counted = lambda *args, own=own, name=name: ran.append(name) or own(*args)  # noqa: E731
            if patched is None:
                module.forward = counted
            else:
                patched.original = counted
    logits(model, prompts)
    assert ran == [
        "model.layers.0.input_layernorm", "model.layers.2.post_attention_layernorm", "model.norm",
    ]  # fmt: skip


@pytest.mark.parametrize("side", ["after", "before"])
def test_what_hooks_do_between_blocks_is_seen(side, tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors(), fuse_norm=fuse_norm).set("joy")
        if side == "after":
            model.model.layers[0].register_forward_hook(lambda m, a, out: out.mul_(1.5).add_(0.1))
        else:
            model.model.layers[1].register_forward_pre_hook(lambda m, a: a[0].mul_(1.5).add_(0.1))
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_a_skipped_block_does_not_leave_its_norm_behind(tiny, vectors, prompts):
    results = []
    for fuse_norm in (False, True):
        model = tiny()
        patch(model, vectors(), fuse_norm=fuse_norm).set("joy")
        vars(model.model.layers[1])["forward"] = lambda hidden, **_: hidden
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_after_a_forward_that_failed(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())

    def fail(*_):
        raise RuntimeError("stop")

    model.model.layers[1].self_attn.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop"):
        logits(model, prompts)
    running = steering.requested.states.devices[0].running
    assert (running.token_slot, running.untouched, running.handed) == (None, None, None)


def test_reading_hidden_states_changes_no_bits(tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors()).set("joy")
    before = logits(model, prompts)
    with torch.no_grad():
        model(prompts, output_hidden_states=True)
    assert model.model.layers[0]._forward_hooks, "transformers leaves its recording hooks"
    assert torch.equal(logits(model, prompts), before)


def test_a_replaced_child_is_run(tiny, vectors, prompts):
    model = tiny()
    patch(model, vectors())
    before = logits(model, prompts)
    block = model.model.layers[1]
    for name in ("mlp", "post_attention_layernorm", "input_layernorm"):
        own = getattr(block, name)
        setattr(block, name, torch.nn.Identity())
        assert not torch.allclose(logits(model, prompts), before, atol=1e-3), name
        setattr(block, name, own)
    assert torch.equal(logits(model, prompts), before)


def test_gradients_flow_through_a_patched_model(tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set("joy", 2.0)
    inference = logits(model, prompts)
    output = model(prompts).logits
    torch.testing.assert_close(output, inference, rtol=1e-4, atol=1e-5)
    output.square().mean().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert model.model.layers[0].post_attention_layernorm.weight.grad.abs().max() > 0


@pytest.mark.parametrize("dose", ["absolute", "relative"])
def test_a_model_may_be_cast_after_patching(dose, tiny, vectors, prompts):
    """What it holds is made anew from the fp32 vectors, not from rounded ones."""
    for dtypes in ([torch.bfloat16], [torch.float16], [torch.bfloat16, torch.float32]):
        model, other = tiny(), tiny()
        patch(model, vectors(), dose=dose).set("joy", 0.5)
        for dtype in dtypes:
            model.to(dtype), other.to(dtype)
        patch(other, vectors(), dose=dose).set("joy", 0.5)
        assert torch.equal(logits(model, prompts), logits(other, prompts))
    with pytest.raises(SteeringError, match=r"cast to torch\.float64"):
        logits(model.double(), prompts)


def test_a_site_that_a_structure_has_not_is_refused_and_the_model_left_alone(
    tiny, vectors, prompts
):
    model = tiny("phi")
    before = logits(model, prompts)
    with pytest.raises(ModelStructureError, match=r'its branches to the stream at once.*"block"'):
        patch(model, vectors())
    assert torch.equal(logits(model, prompts), before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_norm_that_cannot_be_fused_is_reported_and_the_block_steered(tiny, vectors, prompts):
    model = tiny("olmo2")
    before = logits(model, prompts)
    steering = patch(model, vectors())
    assert "add_steer, norm not fused (no norm reads the row directly)" in str(steering.report())
    torch.testing.assert_close(logits(model, prompts), before, rtol=1e-5, atol=1e-6)
    steering.set("joy")
    assert not torch.equal(logits(model, prompts), before)


def test_patching_twice_is_refused(tiny, vectors):
    model = tiny()
    patch(model, vectors())
    with pytest.raises(ModelStructureError, match="patched already"):
        patch(model, vectors())


def test_vectors_of_another_model_are_refused(tiny, vectors):
    for shape in ((4, 64), (3, 32)):
        other = EmotionVectors.from_tensors({"joy": torch.ones(shape)})
        with pytest.raises(ModelStructureError, match="another model"):
            patch(tiny(), other)


def test_a_block_called_outside_of_its_model_is_refused(tiny, vectors):
    model = tiny()
    patch(model, vectors())
    with pytest.raises(SteeringError, match="outside of its model"):
        model.model.layers[0](
            torch.randn(1, 2, 64), position_embeddings=(torch.ones(1, 2, 16), torch.ones(1, 2, 16))
        )


def test_layers_without_vectors_are_refused(tiny):
    tensor = torch.ones(3, 64)
    tensor[0] = 0.0
    with pytest.raises(EmokernelError, match="zero in layers"):
        patch(tiny(), EmotionVectors.from_tensors({"joy": tensor}), layers=[0])


def test_missing_input_is_told_by_the_model(tiny, vectors):
    model = tiny()
    patch(model, vectors())
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        model()


def test_autocast_to_another_half_is_refused(tiny, vectors, prompts):
    model = tiny(dtype=torch.bfloat16)
    patch(model, vectors()).set("joy")
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(SteeringError, match="autocast"),
    ):
        logits(model, prompts)


def test_no_transformers_model_is_refused(vectors):
    with pytest.raises(ModelStructureError, match="Hugging Face"):
        patch(torch.nn.Linear(2, 2), vectors())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "keep"}, "unknown law 'keep'"),
        ({"dose": "large"}, "unknown dose"),
        ({"site": "mlp"}, "unknown site"),
        ({"positions": "first"}, "unknown positions"),
        ({"layers": [3]}, "no such layers"),
        ({"layers": []}, "no layer to steer"),
        ({"layers": "all"}, "a list of layer numbers"),
        ({"slots": 0}, "slots must be"),
    ],
)
def test_unknown_choices_are_refused(options, message, tiny, vectors):
    with pytest.raises(EmokernelError, match=message):
        patch(tiny(), vectors(), **options)


def test_backend_can_be_forced(tiny, vectors, prompts, monkeypatch):
    model = tiny()
    assert patch(model, vectors(), backend="reference").report().backend == "reference"
    with pytest.raises(ValueError, match="unknown backend"):
        patch(tiny(), vectors(), backend="fast")
    monkeypatch.setenv("EMOKERNEL_BACKEND", "reference")
    assert patch(tiny(), vectors()).report().backend == "reference"


def test_backends_agree(tiny, vectors, prompts):
    results = []
    for backend in ("reference", "cpu"):
        model = tiny()
        patch(model, vectors(), backend=backend).set("joy", 2.0)
        results.append(logits(model, prompts))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_dropout_in_training_is_that_of_the_model(tiny, vectors, prompts):
    results = []
    for patched in (False, True):
        model = tiny()
        for block in model.model.layers:
            block.self_attn.attention_dropout = 0.5
        if patched:
            patch(model, vectors(), fuse_norm=False)
        model.train()
        torch.manual_seed(3)
        results.append(model(prompts).logits)
    assert torch.equal(*results)
