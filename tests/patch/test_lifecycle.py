"""A patched model that accelerate spreads over devices, and one whose forwards others wrap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from emokernel import patch
from emokernel.errors import ModelStructureError
from emokernel.replaced import ReplacedMethod

accelerate = pytest.importorskip(
    "accelerate", reason="needs accelerate (device_map, offloading): pip install accelerate"
)
from accelerate.hooks import remove_hook_from_module  # noqa: E402

PARTS = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
HOW = ("dispatch", "disk", "offload")


@pytest.fixture
def spread(tmp_path) -> Callable[[PreTrainedModel, str], PreTrainedModel]:
    """``spread(model, how)``: with accelerate's hooks on every part.

    "dispatch": all parts on the CPU; "disk": one block in a file; "offload": every weight away
    until it is used.
    """

    def make(model: PreTrainedModel, how: str) -> PreTrainedModel:
        if how == "offload":
            return accelerate.cpu_offload(model, execution_device="cpu")
        blocks = [f"model.layers.{index}" for index in range(len(model.model.layers))]
        places = dict.fromkeys((*PARTS, *blocks), "cpu")
        if how == "disk":
            places["model.layers.1"] = "disk"
        return accelerate.dispatch_model(
            model, places, main_device="cpu", force_hooks=True, offload_dir=str(tmp_path)
        )

    return make


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def leftovers(model: nn.Module) -> list[tuple[str, str]]:
    """Where emokernel still is: (module, attribute)."""
    return [
        (name, attribute)
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, ReplacedMethod)
    ]


@pytest.fixture
def steered(tiny, vectors, prompts) -> Tensor:
    """The logits of the patched model where nothing is spread."""
    model = tiny()
    patch(model, vectors()).set("joy", 2.0)
    return logits(model, prompts)


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("first", ["patch", "spread"])
def test_a_model_with_a_device_map_is_steered_like_one_without(
    first, how, site, tiny, vectors, prompts, spread
):
    alone, model = tiny(), tiny()
    patch(alone, vectors(site)).set("joy", 2.0)
    if first == "spread":
        model = spread(model, how)
    steering = patch(model, vectors(site))
    if first == "patch":
        model = spread(model, how)
    unset = logits(model, prompts)
    torch.testing.assert_close(unset, logits(tiny(), prompts), rtol=1e-4, atol=1e-5)
    steering.set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), logits(alone, prompts), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(model, prompts), unset, atol=1e-2)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("first", ["patch", "spread"])
def test_a_model_with_a_device_map_generates_by_request(first, how, tiny, vectors, prompts, spread):
    results = []
    for spreads in (False, True):
        model = tiny()
        if spreads and first == "spread":
            model = spread(model, how)
        steering = patch(model, vectors(), fuse_norm=False)
        if spreads and first == "patch":
            model = spread(model, how)
        with steering.requests([{"joy": 4.0}, None, {"anger": 4.0}, None]):
            results.append(model.generate(prompts, max_new_tokens=5, do_sample=False))
    assert torch.equal(*results)


@pytest.mark.parametrize("how", HOW)
def test_unpatch_restores_every_attribute_of_a_spread_model(how, tiny, vectors, prompts, spread):
    model = spread(tiny(), how)
    before = {module: dict(vars(module)) for module in model.modules()}
    patch(model, vectors()).unpatch()
    for module in model.modules():
        assert vars(module).keys() == before[module].keys()
        assert all(value is before[module][name] for name, value in vars(module).items())
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))


@pytest.mark.parametrize("how", HOW)
def test_unpatch_leaves_the_hooks_that_came_after_patching(how, tiny, vectors, prompts, spread):
    model = tiny()
    steering = patch(model, vectors())
    model = spread(model, how)
    hooked = [module for module in model.modules() if hasattr(module, "_hf_hook")]
    forwards = {module: vars(module)["forward"] for module in hooked}
    steering.set("joy")
    steering.unpatch()
    assert not leftovers(model)
    assert all(vars(module).get("forward") is own for module, own in forwards.items())
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))
    patch(model, vectors()).unpatch()


@pytest.mark.parametrize("first", ["patch", "spread"])
def test_hooks_may_be_removed_from_a_patched_model(first, tiny, vectors, prompts, spread, steered):
    model = tiny()
    if first == "spread":
        model = spread(model, "dispatch")
    steering = patch(model, vectors())
    if first == "patch":
        model = spread(model, "dispatch")
    remove_hook_from_module(model, recurse=True)
    steering.set("joy", 2.0)
    assert torch.equal(logits(model, prompts), steered)
    steering.unpatch()
    assert not leftovers(model)
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))


def test_an_offloaded_norm_is_reported(tiny, vectors, spread):
    report = str(patch(spread(tiny(), "offload"), vectors()).report())
    assert "norm not fused (model.layers.*.post_attention_layernorm: its weight is offl" in report


def test_patching_twice_is_refused_whatever_came_between(tiny, vectors, spread):
    model = tiny()
    patch(model, vectors())
    with pytest.raises(ModelStructureError, match=r"patched already: call unpatch\(\)"):
        patch(spread(model, "dispatch"), vectors())


@pytest.mark.parametrize("part", ["model", "model.layers.1", "model.layers.1.input_layernorm"])
def test_unpatch_leaves_a_forward_that_wraps_the_patched_one(part, tiny, vectors, prompts):
    model = tiny()
    steering = patch(model, vectors())
    steering.set("joy")
    module, calls = model.get_submodule(part), []
    patched = module.forward

    def wrapper(*args, **kwargs):
        calls.append(part)
        return patched(*args, **kwargs)

    module.forward = wrapper
    steering.unpatch()
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))
    assert calls == [part]
    assert not leftovers(model)


def test_two_patched_models_run_in_two_threads(tiny, vectors, prompts):
    """Each model in each thread gets what it gets alone."""
    from concurrent.futures import ThreadPoolExecutor

    models = [tiny("llama"), tiny("qwen2")]
    handles = [patch(model, vectors()) for model in models]
    asked = (["joy"] * 4, ["anger", None, "sadness", {"joy": -2.0}])

    def run(which: int, requests: list) -> list[Tensor]:
        results = []
        for _ in range(4):
            with handles[which].requests(requests):
                results.append(models[which].generate(prompts, max_new_tokens=3, do_sample=False))
        return results

    jobs = [(which, requests) for which in (0, 1) for requests in asked]
    alone = [run(*job)[0] for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: run(*job), jobs))
    for expected, results in zip(alone, together, strict=True):
        assert all(torch.equal(expected, result) for result in results)
