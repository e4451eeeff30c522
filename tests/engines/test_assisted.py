"""Assisted decoding: candidates that are verified several at a time are generated tokens."""

from __future__ import annotations

import pytest
import torch
from engines.oracle import assert_steps, by_hand, teacher_forced

from emokernel import patch

POSITIONS = ["all", "prompt", "generated", "last"]
OPTIONS = {
    "max_new_tokens": 12, "output_logits": True, "return_dict_in_generate": True,
}  # fmt: skip


def assert_steered(output, request, positions, plain, emotions, width=7):
    text = output.sequences
    real = torch.ones_like(text).bool()
    where = by_hand(positions, real, (torch.arange(text.shape[1]) < width)[None])
    full = teacher_forced(plain, emotions, text, real, width, ([request], where))
    assert_steps(output.logits, full, width)


def assisting(model, noise=0.0):
    """``model`` as an assistant that drafts 3 tokens in each round, made to err by ``noise``."""
    config = model.generation_config
    config.num_assistant_tokens, config.num_assistant_tokens_schedule = 3, "constant"
    config.assistant_confidence_threshold = 0.0
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * parameter.std() * torch.randn_like(parameter)
    return model


def calls_of(model):
    """How many new tokens each forward of ``model`` gets, a list that grows."""
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("do_sample", [False, True])
def test_candidates_of_another_model_are_generated_tokens(
    do_sample, positions, pair, model_of, prompts, requests_at, emotions
):
    plain, model, steering = pair()
    request = requests_at(positions)[0]
    assistant = assisting(model_of(), 0.1)
    seen = calls_of(model)
    torch.manual_seed(5)
    with steering.requests([request]):
        output = model.generate(
            prompts[:1], assistant_model=assistant, do_sample=do_sample, **OPTIONS
        )
    assert max(seen[1:]) > 2, "nothing was verified several at a time"
    assert_steered(output, request, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_candidates_looked_up_in_the_prompt_are_generated_tokens(
    positions, pair, requests_at, emotions
):
    plain, model, steering = pair()
    request = requests_at(positions)[0]
    ids = torch.tensor([[7, 8, 9, 7, 8, 9, 7]])
    seen = calls_of(model)
    with steering.requests([request]):
        output = model.generate(ids, prompt_lookup_num_tokens=3, do_sample=False, **OPTIONS)
    assert max(seen) > 7, "nothing was verified in the first call"
    assert_steered(output, request, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_candidates_of_the_first_layers_are_generated_tokens(
    positions, pair, prompts, requests_at, emotions
):
    plain, model, steering = pair()
    request = requests_at(positions)[0]
    with steering.requests([request]):
        output = model.generate(prompts[:1], assistant_early_exit=2, do_sample=False, **OPTIONS)
    assert_steered(output, request, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_patched_assistant_knows_the_prompt_in_every_round(
    positions, pair, model_of, vectors, prompts, requests_at, emotions
):
    # A twin, steered alike, says what the model says: every candidate is right.
    plain, model, steering = pair()
    twin = assisting(model_of())
    twin_steering = patch(twin, vectors("block"))
    request = requests_at(positions)[0]
    seen = calls_of(model)
    with steering.requests([request]), twin_steering.requests([request]):
        output = model.generate(prompts[:1], assistant_model=twin, do_sample=False, **OPTIONS)
    assert seen == [7 + 3, 4, 4], "a candidate was refused"
    assert_steered(output, request, positions, plain, emotions)


@pytest.mark.parametrize("positions", POSITIONS)
def test_candidates_with_a_window_shorter_than_the_text(positions, pair, requests_at, emotions):
    plain, model, steering = pair("sliding")
    request = requests_at(positions)[0]
    ids = torch.tensor([[7, 8, 9, 7, 8, 9, 7]])
    with steering.requests([request]):
        output = model.generate(ids, prompt_lookup_num_tokens=3, do_sample=False, **OPTIONS)
    assert_steered(output, request, positions, plain, emotions)
