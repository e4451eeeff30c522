"""Blocks that are run again in the backward pass are steered as they were in the forward pass."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings

import pytest
import torch
from lab.learn.hooks import assert_equal_gradients, gradients
from torch import Tensor, nn

from emokernel import patch, steering_of

KINDS = pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
FAMILIES = ("llama", "qwen3", "gemma", "gpt2", "olmo2", "phi")


@pytest.fixture(autouse=True)
def quiet():
    """Transformers 5.23 has another name for it, 5.17 has not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def switch_on(model, reentrant: bool) -> None:
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()


def counted(model) -> list[int]:
    """How often the MLP of the second block is begun, from now on."""
    runs: list[int] = []
    model.get_submodule("model.layers.1.mlp").register_forward_pre_hook(lambda *_: runs.append(1))
    return runs


def loss_of(model, ids: Tensor) -> Tensor:
    torch.manual_seed(4)  # dropout
    return model(ids, labels=ids, use_cache=False).loss


@KINDS
def test_the_backward_pass_may_run_in_another_thread(reentrant, tiny, vectors, prompts):
    """As it does on a GPU, in threads of torch's own."""
    model = tiny("llama").train()
    patch(model, vectors("block")).set("joy", 0.5)
    loss_of(model, prompts).backward()
    expected = gradients(model)
    switch_on(model, reentrant)
    loss = loss_of(model, prompts)
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert_equal_gradients(gradients(model), expected, 1e-5)


@KINDS
@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_equal_with_and_without(family, site, reentrant, tiny, vectors, prompts):
    if family == "phi" and site == "attention":
        pytest.skip("its blocks add both branches at once")
    model = tiny(family).train()
    steering = patch(model, vectors(site))
    steering.set({"joy": 0.5, "anger": -0.2})
    loss = loss_of(model, prompts)
    loss.backward()
    expected = gradients(model)
    switch_on(model, reentrant)
    again = loss_of(model, prompts)
    again.backward()
    assert torch.equal(again, loss)
    assert_equal_gradients(gradients(model), expected, 1e-5)


@KINDS
@pytest.mark.parametrize("order", ["before", "after", "both", "twice"])
def test_it_may_be_switched_on_before_or_after_patch(order, reentrant, tiny, vectors, prompts):
    model = tiny().train()
    if order in ("before", "both"):
        switch_on(model, reentrant)
    steering = patch(model, vectors())
    steering.set("joy", 2.0)
    if order != "before":
        switch_on(model, reentrant)
    if order == "twice":
        loss_of(model, prompts).backward()
        model.gradient_checkpointing_disable()
        loss_of(model, prompts).backward()
        switch_on(model, reentrant)
        gradients(model)
    runs = counted(model)
    loss_of(model, prompts).backward()
    assert len(runs) == 2, "forward, and again in the backward pass"
    found = gradients(model)
    model.gradient_checkpointing_disable()
    loss_of(model, prompts).backward()
    assert len(runs) == 3
    assert_equal_gradients(found, gradients(model), 1e-5)


@KINDS
def test_two_calls_before_one_backward_pass(reentrant, tiny, vectors, prompts):
    """Each with requests of its own, in the same slots, which are written once more after them."""
    model = tiny().train()
    steering = patch(model, vectors(), slots=1)

    def both() -> dict[str, Tensor]:
        losses = []
        for name in ("joy", "anger"):
            with steering.requests([name, None, None, name]):
                losses.append(loss_of(model, prompts))
        steering.set("sadness", 3.0)
        sum(losses).backward()
        steering.off()
        return gradients(model)

    expected = both()
    switch_on(model, reentrant)
    assert_equal_gradients(both(), expected, 1e-5)


@KINDS
def test_a_call_within_the_backward_pass_leaves_it_alone(reentrant, tiny, vectors, prompts):
    """As a callback might that samples from the model meanwhile."""
    model = tiny().train()
    steering = patch(model, vectors())
    switch_on(model, reentrant)
    steering.set("joy")
    loss_of(model, prompts).backward()
    expected = gradients(model)
    loss, seen = loss_of(model, prompts), []

    def sample(_grad: Tensor) -> None:
        with torch.no_grad(), steering.requests([None, "anger"]):
            seen.append(model(prompts[:2, :3]).logits)

    handle = model.model.layers[1].mlp.down_proj.weight.register_hook(sample)
    loss.backward()
    handle.remove()
    assert len(seen) == 1
    assert_equal_gradients(gradients(model), expected, 1e-5)


def test_parts_are_checkpointed_as_the_model_says(tiny, vectors, prompts):
    model = tiny().train()
    patch(model, vectors()).set("joy")
    runs = counted(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.model.layers[1].gradient_checkpointing = False
    loss_of(model, prompts).backward()
    assert len(runs) == 1
    model.eval()
    loss_of(model, prompts).backward()
    assert len(runs) == 2, "nothing is checkpointed in evaluation"


@KINDS
def test_unpatch_gives_back_the_models_own_checkpointing(reentrant, tiny, vectors, prompts):
    model = tiny().train()
    switch_on(model, reentrant)
    loss_of(model, prompts).backward()
    expected = gradients(model)
    before = {m: dict(vars(m)) for m in model.modules()}
    steering = patch(model, vectors())
    loss_of(model, prompts).backward()
    gradients(model)
    steering.unpatch()
    for module, attributes in before.items():
        assert vars(module).keys() == attributes.keys()
        name = "_gradient_checkpointing_func"
        assert vars(module).get(name) is attributes.get(name)
    loss_of(model, prompts).backward()
    assert_equal_gradients(gradients(model), expected, 0.0)


def test_a_pickle_is_an_unpatched_model_and_a_copy_a_patched_one(tiny, vectors, prompts):
    model = tiny().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    patch(model, vectors()).set("joy", 2.0)
    loss_of(model, prompts).backward()
    expected = gradients(model)
    twin = copy.deepcopy(model)
    loss_of(twin, prompts).backward()
    assert_equal_gradients(gradients(twin), expected, 1e-6)
    steering_of(twin).set("anger")
    loss_of(model, prompts).backward()
    assert_equal_gradients(gradients(model), expected, 1e-6)
    model.disable_input_require_grads()  # a hook of transformers' that no pickle holds
    loaded = pickle.loads(pickle.dumps(model))
    assert not any("emokernel" in type(v).__module__ for m in loaded.modules()
                   for v in vars(m).values())  # fmt: skip
    loss_of(loaded, prompts).backward()


@KINDS
def test_a_model_whose_blocks_are_steered_at_their_output(reentrant, tiny, vectors, prompts):
    """Where no add of the block can be seen."""
    model = tiny().train()

    def hidden_add(hidden: Tensor, branch: Tensor) -> Tensor:
        return torch.add(hidden, branch)

    class Block(type(model.model.layers[0])):
        def forward(self, hidden_states, **kwargs):
            residual = hidden_states
            hidden_states, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
            hidden_states = hidden_add(residual, hidden_states)
            normed = self.post_attention_layernorm(hidden_states)
            return hidden_add(hidden_states, self.mlp(normed))

    for block in model.model.layers:
        block.__class__ = Block
    steering = patch(model, vectors("block"))
    assert {layer.operation for layer in steering.report().layers} == {"steer"}
    steering.set("joy", 2.0)
    loss_of(model, prompts).backward()
    expected = gradients(model)
    switch_on(model, reentrant)
    loss_of(model, prompts).backward()
    assert_equal_gradients(gradients(model), expected, 1e-5)
    assert isinstance(model.model.layers[0], nn.Module)
