"""A patched model is trained with the gradients that plain hooks of the same law give."""

from __future__ import annotations

import pytest
import torch
from lab.learn.hooks import assert_equal_gradients, gradients, steered_by_hooks
from torch import Tensor

from emokernel import EmotionVectors, patch
from emokernel.errors import SteeringError

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 6e-2, torch.float16: 2e-2}


@pytest.fixture
def batch(prompts) -> dict[str, Tensor]:
    """Padded on both sides."""
    mask = torch.ones_like(prompts)
    mask[1, :2] = 0
    mask[2, -3:] = 0
    return {
        "input_ids": prompts,
        "attention_mask": mask,
        "labels": torch.where(mask.bool(), prompts, -100),
    }


def loss_of(model, batch) -> Tensor:
    loss = model(**batch).loss
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("law", ["add", "preserve", "relative"])
@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2", "olmo2", "phi"])
def test_gradients_of_the_model_are_those_of_hooks(family, law, dtype, tiny, vectors, batch):
    model = tiny(family, dtype).train()
    weight, own = 0.5, vectors("block")
    used = own["joy"].to(dtype).float()
    if law == "relative":
        used = used / used.norm(dim=-1, keepdim=True)
    with steered_by_hooks(model, [used] * 4, law=law, weight=weight, rows=batch["attention_mask"]):
        torch.manual_seed(0)
        expected_loss = loss_of(model, batch)
    expected = gradients(model)
    steering = patch(model, own)
    dose = "relative" if law == "relative" else "absolute"
    steering.set("joy", weight, law="preserve" if law == "preserve" else "add", dose=dose)
    torch.manual_seed(0)
    loss = loss_of(model, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-2, atol=1e-5)
    assert_equal_gradients(gradients(model), expected, TOLERANCE[dtype])
    steering.off()
    torch.manual_seed(0)
    unsteered = loss_of(model, batch)
    assert abs(unsteered - loss) > 1e-3, "steering has to matter for this test"


@pytest.mark.parametrize("site", ["attention", "block"])
def test_nothing_set_has_the_gradients_of_the_model_dropout_included(site, tiny, vectors, batch):
    model = tiny("gpt2").train()
    assert model.config.resid_pdrop > 0
    torch.manual_seed(5)
    loss = loss_of(model, batch)
    expected = gradients(model)
    patch(model, vectors(site))
    torch.manual_seed(5)
    assert torch.equal(loss_of(model, batch), loss)
    found = gradients(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# What is trained of a model whose adds, all or some, need no gradient.
TRAINED = {
    "upper blocks": lambda name: ".2." in name,
    "one norm": lambda name: ".1." in name and ("input_layernorm" in name or "ln_1" in name),
    "norms": lambda name: "norm" in name or "ln_" in name,
    "last norm": lambda name: name.endswith(("model.norm.weight", "ln_f.weight", "ln_f.bias")),
    "biases of norms": lambda name: name.endswith("bias") and ("norm" in name or "ln_" in name),
}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2", "nemotron"])
def test_partly_frozen_models_train_as_they_do_unpatched(
    family, trained, site, backend, tiny, vectors, batch
):
    model = tiny(family).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(TRAINED[trained](name))
    if not any(p.requires_grad for p in model.parameters()):
        pytest.skip(f"{family} has no such parameters")
    # At site "attention" unsteered: hooks see the end of a block alone.
    weight = 0.5 if site == "block" else 0.0
    used, rows = [vectors("block")["joy"]] * 4, batch["attention_mask"]
    with steered_by_hooks(model, used, law="add", weight=weight, rows=rows):
        torch.manual_seed(0)
        loss_of(model, batch)
    expected = gradients(model)
    steering = patch(model, vectors("block"), site=site, law="add", backend=backend)
    steering.set("joy", weight)
    torch.manual_seed(0)
    loss_of(model, batch)
    assert_equal_gradients(gradients(model), expected, 2e-5)


@pytest.mark.parametrize("kind", ["LNTuningConfig", "LoraConfig", "IA3Config"])
@pytest.mark.parametrize("first", ["patched", "adapted"])
def test_adapters_train_as_they_do_unpatched(kind, first, tiny, vectors, batch):
    """With their norms frozen, or as the only thing that is trained."""
    peft = pytest.importorskip("peft")
    options = {
        "LNTuningConfig": {"target_modules": ["input_layernorm", "post_attention_layernorm"]},
        "LoraConfig": {"r": 4, "target_modules": ["down_proj"], "layers_to_transform": [1],
                       "modules_to_save": ["norm"]},
        "IA3Config": {"target_modules": ["down_proj"], "feedforward_modules": ["down_proj"]},
    }[kind]  # fmt: skip

    def adapted(model):
        torch.manual_seed(1)
        model = peft.get_peft_model(model, getattr(peft, kind)(**options))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
        return model.train()

    plain = adapted(tiny())
    loss_of(plain, batch)
    expected = gradients(plain)
    model = tiny()
    if first == "patched":
        patch(model, vectors("block"), site="block")
        model = adapted(model)
    else:
        model = adapted(model)
        patch(model, vectors("block"), site="block")
    loss_of(model, batch)
    assert_equal_gradients(gradients(model), expected, 2e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "olmo2", "phi", "normed"])
def test_autocast_of_a_model_in_fp32(family, tiny, vectors, batch):
    """The stream is fp32, or bf16 where the model's own norm lies on it."""
    model = tiny("llama" if family == "normed" else family).train()
    if family == "normed":  # every row of the stream is the result of a linear layer
        model.model.embed_tokens = torch.nn.Sequential(
            model.model.embed_tokens, torch.nn.Linear(64, 64)
        )
        model.tie_weights = lambda *_, **__: None
    own = vectors("block")
    dtypes = set()
    with (
        torch.autocast("cpu", torch.bfloat16),
        steered_by_hooks(
            model, [own["joy"]] * 4, law="preserve", weight=0.5, rows=batch["attention_mask"]
        ),
    ):
        torch.manual_seed(0)
        expected_loss = loss_of(model, batch)
    expected = gradients(model)
    if family == "normed":
        model.get_input_embeddings = lambda: model.model.embed_tokens[0]
    steering = patch(model, own)
    steering.set("joy", 0.5)
    handle = model.get_submodule("model.layers.1" if family != "gpt2" else "transformer.h.1")
    handle.register_forward_hook(
        lambda _, __, output: dtypes.add((output[0] if isinstance(output, tuple) else output).dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        loss = loss_of(model, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-2, atol=1e-3)
    assert_equal_gradients(gradients(model), expected, TOLERANCE[torch.bfloat16])
    assert dtypes == {torch.bfloat16 if family == "normed" else torch.float32}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.manual_seed(0)
        torch.testing.assert_close(model(**batch).loss, loss, rtol=1e-2, atol=1e-3)


def test_two_calls_before_one_backward_pass_keep_their_own_requests(tiny, vectors, batch):
    """Though the second ones take the very slots that the first ones had."""
    model, own = tiny().train(), vectors("block")
    rows = batch["attention_mask"]
    for first in (own["joy"], own["anger"]):
        with steered_by_hooks(model, [first, None] * 2, law="preserve", weight=1.0, rows=rows):
            loss_of(model, batch)
    expected = gradients(model)
    steering = patch(model, own, slots=1)
    losses = []
    for name in ("joy", "anger"):
        with steering.requests([name, None] * 2):
            losses.append(model(**batch).loss)
    steering.set("sadness", 3.0)
    sum(losses).backward()
    assert_equal_gradients(gradients(model), expected, TOLERANCE[torch.float32])


def test_slots_written_in_inference_mode_are_those_of_the_next_call(tiny, vectors, batch):
    model = tiny().train()
    steering = patch(model, vectors("block"))
    steering.set("joy")
    before = model(**batch).loss
    with torch.inference_mode():
        steering.set("anger", 2.0)
    after = model(**batch).loss
    assert (before - after).abs() > 1e-3
    steering.set("joy")
    torch.testing.assert_close(model(**batch).loss, before)


def test_an_own_loop_trains_the_model_beneath_its_steering(tiny, vectors, batch):
    model = tiny().train()
    steering = patch(model, vectors())
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for emotion in ["joy", "anger"] * 4:
        with steering.requests([emotion, None, {"joy": 0.3, "anger": -0.2}, emotion]):
            loss = model(**batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_trainer_trains_an_adapter_beneath_steering(
    checkpointing, tiny, vectors, prompts, tmp_path
):
    peft = pytest.importorskip("peft")
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = peft.get_peft_model(
        tiny(), peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    steering = patch(model, vectors())
    steering.set("joy", 1.5)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    losses = []

    class Watched(Trainer):
        def log(self, logs, *args, **kwargs):
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        tmp_path, max_steps=15, per_device_train_batch_size=4, learning_rate=1e-1,
        logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in prompts]
    Watched(model, arguments, train_dataset=rows).train()
    assert losses[-1] < losses[0] - 0.3
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name])


def test_autocast_of_a_model_in_another_half_is_refused(tiny, vectors, batch):
    model = tiny(dtype=torch.bfloat16)
    patch(model, vectors()).set("joy")
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(SteeringError, match="patch the model in float32"),
    ):
        model(**batch)


def test_vectors_of_one_emotion_train_too(tiny, batch):
    model = tiny().train()
    vectors = EmotionVectors.from_tensors({"joy": torch.randn(3, 64)}, site="block")
    patch(model, vectors, slots=1).set("joy", -0.7, law="add")
    loss_of(model, batch)
    assert all(bool(g.isfinite().all()) for g in gradients(model).values())


@pytest.mark.parametrize("trained", [True, False])
def test_forward_mode_is_refused_where_kernels_have_none(trained, tiny, vectors, prompts):
    """Their results would have no tangent, and the derivative would be zero without a word."""
    model = tiny().requires_grad_(trained)
    model.set_attn_implementation("eager")  # torch's fused attention has none either
    rows = model.get_input_embeddings()(prompts).detach()
    steering = patch(model, vectors("block"))
    tangent = torch.ones_like(rows)

    def run(rows: Tensor) -> Tensor:
        return model(inputs_embeds=rows, use_cache=False).logits

    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), pytest.raises(RuntimeError, match="no forward-mode derivative"):
            torch.func.jvp(run, (rows,), (tangent,))
    steering.unpatch()
    patch(model, vectors("block"), backend="reference").set("joy", 0.5)
    with torch.no_grad():
        logits, forward = torch.func.jvp(run, (rows,), (tangent,))
    g = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4))
    (backward,) = torch.autograd.grad((run(rows.requires_grad_()) * g).sum(), rows)
    found, expected = (forward * g).sum(), (backward * tangent).sum()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
