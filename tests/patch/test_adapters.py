"""Models with adapters (PEFT) and with quantised linear layers (torchao)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import pytest
import torch
from patch.families import FAMILIES
from patch.oracle import steered_logits_and_stream
from torch import Tensor, nn
from transformers import PreTrainedModel

from emokernel import EmotionVectors, Request, patch
from emokernel.errors import ModelStructureError, SteeringError


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="needs peft (LoRA): pip install peft")


@pytest.fixture
def quantisation():
    """torchao's: it logs the libraries for devices that are not here, and warns on import."""
    logging.getLogger("torchao").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "torchao.quantization", reason="needs torchao (int8 weights): pip install torchao"
        )


@pytest.fixture
def lora(peft) -> Callable[..., nn.Module]:
    """``lora(model)``: wrapped, with the same random adapter at every call."""

    def make(model: PreTrainedModel, **options: object) -> nn.Module:
        options = {"target_modules": ["q_proj", "v_proj", "down_proj"]} | options
        config = peft.LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **options)
        torch.manual_seed(9)
        return peft.get_peft_model(model, config).eval()

    return make


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def generated(model: nn.Module, ids: Tensor) -> Tensor:
    made = model.generate(
        input_ids=ids, max_new_tokens=5, do_sample=False, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    return torch.stack(made.logits)


def by_hooks(model: PreTrainedModel, ids: Tensor, emotions: EmotionVectors) -> Tensor:
    """What joy at strength 2, added, makes of an unpatched model."""
    return steered_logits_and_stream(
        model, ids, torch.ones_like(ids), emotions["joy"], family=FAMILIES["llama"],
        site="attention", weight=2.0,
    ).logits  # fmt: skip


@pytest.fixture
def expected(tiny, vectors, prompts, lora) -> Tensor:
    """A model with the adapter merged in, steered by plain hooks."""
    return by_hooks(lora(tiny()).merge_and_unload(), prompts, vectors())


def adapted(order: str, model: PreTrainedModel, lora: Callable, emotions: EmotionVectors):
    """(The wrapped model, its handle), wrapped before or after patching."""
    if order == "patch, wrap":
        steering = patch(model, emotions, law="add")
        return lora(model), steering
    wrapped = lora(model)
    patched = wrapped if order == "wrap, patch" else wrapped.get_base_model()
    return wrapped, patch(patched, emotions, law="add")


ORDERS = ("wrap, patch", "wrap, patch its base", "patch, wrap")


@pytest.mark.parametrize("order", ORDERS)
def test_a_lora_model_is_steered_like_the_merged_one(order, tiny, vectors, prompts, lora, expected):
    model, steering = adapted(order, tiny(), lora, vectors())
    assert all(layer.norm for layer in steering.report().layers)
    before = logits(model, prompts)
    steering.set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), expected, rtol=1e-4, atol=1e-5)
    steering.unpatch()
    torch.testing.assert_close(logits(model, prompts), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_an_adapter_may_be_merged_while_patched(order, tiny, vectors, prompts, lora, expected):
    model, steering = adapted(order, tiny(), lora, vectors())
    steering.set("joy", 2.0)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, prompts), expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_may_be_switched_off_while_patched(tiny, vectors, prompts, lora):
    model, steering = adapted("wrap, patch", tiny(), lora, vectors())
    steering.set("joy", 2.0)
    with model.disable_adapter():
        plain = logits(model, prompts)
    torch.testing.assert_close(plain, by_hooks(tiny(), prompts, vectors()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(model, prompts), plain, atol=1e-2)


@pytest.mark.parametrize("through", ["wrapper", "base", "merged"])
@pytest.mark.parametrize("order", ORDERS)
def test_positions_are_exact_whichever_generate_is_called(
    order, through, tiny, vectors, prompts, lora
):
    """`generate` of the wrapper, of the model within it, and of what merging gives."""
    requests = [
        Request("joy", 4.0, positions="prompt"), Request("anger", 4.0, positions="generated"),
        Request("sadness", 4.0, positions="last"), Request(None),
    ]  # fmt: skip
    alone = lora(tiny()).merge_and_unload()
    with patch(alone, vectors(), law="add").requests(requests):
        wanted = generated(alone, prompts)
    model, steering = adapted(order, tiny(), lora, vectors())
    called = {
        "wrapper": lambda: model, "base": model.get_base_model, "merged": model.merge_and_unload
    }[through]()  # fmt: skip
    with steering.requests(requests):
        torch.testing.assert_close(generated(called, prompts), wanted, rtol=1e-3, atol=1e-4)


def test_a_norm_that_was_trained_is_the_one_that_runs(tiny, vectors, prompts, lora):
    model = lora(tiny(), modules_to_save=["post_attention_layernorm"])
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data.mul_(1.5)
    results = []
    for fuse_norm in (False, True):
        steering = patch(model, vectors(), fuse_norm=fuse_norm)
        steering.set("joy", 2.0)
        results.append(logits(model, prompts))
        steering.unpatch()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_an_adapter_of_transformers_own_is_steered(tiny, vectors, prompts, peft, lora, expected):
    model = tiny()
    steering = patch(model, vectors(), law="add")
    torch.manual_seed(9)
    model.add_adapter(
        peft.LoraConfig(
            r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj", "down_proj"]
        )
    )
    model.eval()
    steering.set("joy", 2.0)
    torch.testing.assert_close(logits(model, prompts), expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_is_trained_beneath_steering(tiny, vectors, prompts, lora):
    model, steering = adapted("wrap, patch", tiny(), lora, vectors())
    steering.set("joy")
    model(input_ids=prompts).logits.square().mean().backward()
    learned = [p for p in model.parameters() if p.requires_grad]
    assert learned
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in learned)


@pytest.mark.parametrize("order", ["wrap, patch", "patch, wrap"])
def test_virtual_tokens_in_generate_are_refused(order, tiny, vectors, prompts, peft):
    """They move every prompt; once nothing is steered they are none of our business."""
    model = tiny()
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, config).eval() if order == "wrap, patch" else None
    steering = patch(wrapped or model, vectors())
    wrapped = wrapped or peft.get_peft_model(model, config).eval()
    plain = generated(wrapped, prompts)
    with (
        steering.requests(["joy"] * 4),
        pytest.raises(SteeringError, match="rows of their own before every prompt"),
    ):
        generated(wrapped, prompts)
    assert torch.equal(generated(wrapped, prompts), plain)


def test_prefix_tuning_is_refused(tiny, vectors, peft):
    config = peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    with pytest.raises(ModelStructureError, match="prefix tuning"):
        patch(peft.get_peft_model(tiny(), config).eval(), vectors())


@pytest.mark.parametrize("order", ["quantise, patch", "patch, quantise"])
def test_int8_weights_are_steered_like_by_hooks(order, tiny, vectors, prompts, quantisation):
    model, alone, config = tiny(), tiny(), quantisation.Int8WeightOnlyConfig()
    quantisation.quantize_(alone, config)
    if order == "quantise, patch":
        quantisation.quantize_(model, config)
    steering = patch(model, vectors(), law="add")
    if order == "patch, quantise":
        quantisation.quantize_(model, config)
    assert all(layer.norm for layer in steering.report().layers)
    steering.set("joy", 2.0)
    wanted = by_hooks(alone, prompts, vectors())
    torch.testing.assert_close(logits(model, prompts), wanted, rtol=1e-4, atol=1e-5)
    steering.unpatch()
    assert torch.equal(logits(model, prompts), logits(alone, prompts))
    assert not torch.equal(logits(alone, prompts), logits(tiny(), prompts))


def test_int8_activations_ask_for_norms_that_are_not_fused(tiny, vectors, prompts, quantisation):
    """There, a rounding of one bit may move an activation by a whole step."""
    model = tiny()
    quantisation.quantize_(model, quantisation.Int8DynamicActivationInt8WeightConfig())
    before = logits(model, prompts)
    with pytest.raises(ModelStructureError, match="use fuse_norm=False"):
        patch(model, vectors())
    assert torch.equal(logits(model, prompts), before)
    steering = patch(model, vectors(), law="add", fuse_norm=False)
    assert torch.equal(logits(model, prompts), before)
    wanted = by_hooks(model, prompts, vectors())
    steering.set("joy", 2.0)
    steered = logits(model, prompts)
    torch.testing.assert_close(steered, wanted, rtol=0, atol=1e-2)
    assert not torch.allclose(steered, before, atol=1e-1)
