"""PEFT, accelerate and torchao, before or after `patch`, at the end of a block: plain hooks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import pytest
import torch
from company.test_tools import (
    MODES,
    ORDERS,
    STRENGTH,
    close,
    generated,
    hook_blocks,
    leftovers,
    logits,
)
from torch import Tensor, nn

from emokernel import patch
from emokernel.errors import ModelStructureError

LINEAR = ["q_proj", "v_proj", "down_proj"]
NORMS = ["input_layernorm", "post_attention_layernorm", "norm"]
# (Class of its config, entries); what LoRA does not touch are the other ways to change a block.
ADAPTERS: dict[str, tuple[str, dict]] = {
    "LoRA": ("LoraConfig", {"r": 4, "target_modules": "all-linear"}),
    "LoRA of a weight": (
        "LoraConfig", {"r": 4, "target_modules": [], "target_parameters": ["mlp.down_proj.weight"]}
    ),
    "DoRA": ("LoraConfig", {"r": 4, "use_dora": True, "target_modules": LINEAR}),
    "trained norms": (
        "LoraConfig", {"r": 4, "target_modules": LINEAR, "modules_to_save": NORMS[:2]}
    ),
    "trained branch": ("LoraConfig", {"r": 4, "target_modules": ["q_proj"],
                                      "modules_to_save": ["mlp"]}),
    "LN tuning": ("LNTuningConfig", {"target_modules": NORMS}),
    "IA3": (
        "IA3Config",
        {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    ),
    "OFT": ("OFTConfig", {"r": 4, "oft_block_size": 0, "target_modules": ["q_proj"]}),
    "adaption prompt": ("AdaptionPromptConfig", {"adapter_len": 4, "adapter_layers": 2}),
    "trained tokens": (
        "TrainableTokensConfig", {"token_indices": [3, 5, 9], "target_modules": ["embed_tokens"]}
    ),
}  # fmt: skip


@pytest.fixture
def adapted() -> Callable[[nn.Module, str], nn.Module]:
    """``adapted(model, name)``: with the same random adapter at every call."""
    peft = pytest.importorskip("peft", reason="needs peft (adapters): pip install peft")

    def make(model: nn.Module, name: str) -> nn.Module:
        kind, entries = ADAPTERS[name]
        torch.manual_seed(9)
        wrapped = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **entries))
        generator = torch.Generator().manual_seed(4)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data.add_(0.05 * noise)
        return wrapped.eval()

    return make


def together(
    order: str, model: nn.Module, touch: Callable[[nn.Module], nn.Module], vectors, **options
):
    """(The touched model, its handle)."""
    if order == "tool, patch":
        model = touch(model)
        return model, patch(model, vectors("block"), law="add", **options)
    steering = patch(model, vectors("block"), law="add", **options)
    return touch(model), steering


def compare(model, steering, alone: nn.Module, hooked: nn.Module, prompts: Tensor) -> None:
    """Unsteered, steered, in `generate`, and unpatched."""
    plain, steered = logits(alone, prompts), logits(hooked, prompts)
    assert not torch.allclose(steered, plain, atol=1e-2)
    for mode in MODES:
        close(logits(model, prompts, mode), plain)
    steering.set("joy", STRENGTH)
    for mode in MODES:
        close(logits(model, prompts, mode), steered)
    close(generated(model, prompts), generated(hooked, prompts))
    steering.unpatch()
    assert torch.equal(logits(model, prompts), plain)
    assert not leftovers(model)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name, order, tiny, vectors, prompts, adapted):
    rows = STRENGTH * vectors("block")["joy"]
    model, steering = together(order, tiny(), lambda each: adapted(each, name), vectors)
    alone, hooked = adapted(tiny(), name), adapted(hook_blocks(tiny(), rows), name)
    assert not torch.allclose(logits(alone, prompts), logits(tiny(), prompts), atol=1e-3)
    compare(model, steering, alone, hooked, prompts)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["LoRA", "trained norms"])
def test_an_adapter_may_be_taken_off_a_patched_model(name, order, tiny, vectors, prompts, adapted):
    rows = STRENGTH * vectors("block")["joy"]
    model, steering = together(order, tiny(), lambda each: adapted(each, name), vectors)
    model, alone = model.unload(), adapted(tiny(), name).unload()
    steering.set("joy", STRENGTH)
    close(
        logits(model, prompts), logits(adapted(hook_blocks(tiny(), rows), name).unload(), prompts)
    )
    steering.unpatch()
    assert torch.equal(logits(model, prompts), logits(alone, prompts))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["LoRA", "trained norms", "LN tuning"])
def test_adapters_learn_what_they_learn_without_us(name, order, tiny, vectors, prompts, adapted):
    def gradients(model: nn.Module) -> dict[str, Tensor]:
        model(input_ids=prompts, labels=prompts).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    rows = STRENGTH * vectors("block")["joy"]
    model, steering = together(order, tiny(), lambda each: adapted(each, name), vectors)
    steering.set("joy", STRENGTH)
    got, wanted = (gradients(each) for each in (model, adapted(hook_blocks(tiny(), rows), name)))
    assert wanted
    assert got.keys() == wanted.keys()
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(got[parameter], gradient, rtol=1e-3, atol=1e-6)


@pytest.fixture
def hooks():
    return pytest.importorskip(
        "accelerate.hooks", reason="needs accelerate (hooks): pip install accelerate"
    )


def placed(hooks, where: str) -> Callable[[nn.Module], nn.Module]:
    """Puts a hook of accelerate's on parts of each block: one of its own, or one that writes."""

    class Writes(hooks.ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            args[0].data.mul_(1.2)
            return args, kwargs

    def touch(model: nn.Module) -> nn.Module:
        for block in model.model.layers:
            if where == "blocks, offloaded":
                hook = hooks.AlignDevicesHook("cpu", offload=True, place_submodules=True)
                hooks.add_hook_to_module(block, hook)
            elif where == "norms, offloaded":
                hook = hooks.AlignDevicesHook("cpu", offload=True)
                hooks.add_hook_to_module(block.post_attention_layernorm, hook)
            elif where == "norms, writing":
                hooks.add_hook_to_module(block.post_attention_layernorm, Writes())
            else:
                hooks.add_hook_to_module(block, Writes())
        return model

    return touch


WRITING = ("norms, writing", "blocks, writing")
PLACES = [
    *((where, order) for where in ("blocks, offloaded", "norms, offloaded") for order in ORDERS),
    *((where, "patch, tool") for where in WRITING),
]


@pytest.mark.parametrize(("where", "order"), PLACES)
def test_hooks_of_accelerate(where, order, tiny, vectors, prompts, hooks):
    touch = placed(hooks, where)
    rows = STRENGTH * vectors("block")["joy"]
    model, steering = together(order, tiny(), touch, vectors)
    alone, hooked = touch(tiny()), touch(hook_blocks(tiny(), rows))
    steering.set("joy", STRENGTH)
    for mode in MODES:
        close(logits(model, prompts, mode), logits(hooked, prompts, mode))
    close(generated(model, prompts), generated(hooked, prompts))
    hooks.remove_hook_from_module(model, recurse=True)
    close(logits(model, prompts), logits(hook_blocks(tiny(), rows), prompts))
    touch(model)
    steering.unpatch()
    close(logits(model, prompts), logits(alone, prompts))
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(logits(model, prompts), logits(tiny(), prompts))
    assert not leftovers(model)


@pytest.fixture
def quantised() -> Callable[[nn.Module, str], nn.Module]:
    """torchao's `quantize_`; it logs the libraries for devices that are not here, and warns."""
    logging.getLogger("torchao").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao = pytest.importorskip(
            "torchao.quantization", reason="needs torchao (quantised weights): pip install torchao"
        )

    def make(model: nn.Module, kind: str) -> nn.Module:
        config = {
            "int8": torchao.Int8WeightOnlyConfig,
            "int4": lambda: torchao.IntxWeightOnlyConfig(torch.int4),
            "float8": torchao.Float8WeightOnlyConfig,
        }[kind]()
        torchao.quantize_(model, config)
        return model

    return make


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["int8", "int4", "float8"])
def test_quantised_weights(kind, order, tiny, vectors, prompts, quantised):
    rows = STRENGTH * vectors("block")["joy"]
    model, steering = together(order, tiny(), lambda each: quantised(each, kind), vectors)
    alone, hooked = quantised(tiny(), kind), quantised(hook_blocks(tiny(), rows), kind)
    compare(model, steering, alone, hooked, prompts)


def test_a_wrapper_that_is_no_model_names_what_to_patch(tiny, vectors):
    """As of repeng, which hands on a config and nothing else."""

    class ControlModel(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.config = model, model.config

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.model(*args, **kwargs)

    with pytest.raises(ModelStructureError, match=r"the LlamaForCausalLM within it \(\.model\)"):
        patch(ControlModel(tiny()), vectors())
