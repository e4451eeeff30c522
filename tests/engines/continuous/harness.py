"""Managed batches in small, and what each of their requests gives when it is run alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from emokernel import Request, Steering

POSITIONS = ("all", "prompt", "generated", "last")
# How far apart the best two logits must be for equal texts to be due: in units of the largest.
_MARGIN = 3e-5


def config(page: int = 16, **options: Any) -> ContinuousBatchingConfig:
    """A small cache of ``page`` tokens in each block, which sorts nothing but as it is told."""
    known = {field.name for field in fields(ContinuousBatchingConfig)}
    size = "page_size" if "page_size" in known else "block_size"
    options = {"num_blocks": 128, "max_batch_tokens": 64, "return_logprobs": True} | options
    return ContinuousBatchingConfig(**{size: page}, **options)


def greedy(**options: Any) -> GenerationConfig:
    """Greedy texts that never end by themselves."""
    fixed = {"do_sample": False, "eos_token_id": -1, "max_new_tokens": 6}
    return GenerationConfig(**fixed | options)


@contextmanager
def managing(
    model: PreTrainedModel, start: bool = True, sequences: int = 1, **options: Any
) -> Iterator[Any]:
    """A manager of the model that is stopped at the end; ``sequences`` for each request."""
    generation = greedy()
    generation.num_return_sequences = sequences  # greedy ones are alike: `generate` refuses them
    manager = model.init_continuous_batching(generation, config(**options))
    manager.warmup()
    if start:
        manager.start()
    try:
        yield manager
    finally:
        if manager.is_running():
            manager.stop(block=True, timeout=20)


def finished(manager: Any, count: int) -> dict[str, Any]:
    """The results of ``count`` requests by id, those without an error."""
    results: dict[str, Any] = {}
    while len(results) < count:
        result = manager.get_result(timeout=20)
        assert result is not None, "the manager gives nothing more"
        if result.is_finished():
            assert result.error is None, result.error
            results[result.request_id] = result
    return results


def alone(
    model: PreTrainedModel,
    steering: Steering,
    prompt: Sequence[int],
    request: Request | None,
    tokens: int = 6,
) -> tuple[list[int], Tensor]:
    """(The tokens, their log probabilities) of a request in a plain `generate` of its own."""
    with steering.requests([request]):
        output = model.generate(
            torch.tensor([list(prompt)]), generation_config=greedy(max_new_tokens=tokens),
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    logits = torch.stack(output.logits)[:, 0].float()
    best = logits.topk(2).values
    margin = (best[:, 0] - best[:, 1]).min() / logits.abs().max()
    assert margin > _MARGIN, "too close: rounding may choose"
    new = output.sequences[0, len(prompt) :]
    return new.tolist(), logits.log_softmax(-1).gather(1, new[:, None])[:, 0]


def assert_as_alone(
    model: PreTrainedModel,
    steering: Steering,
    result: Any,
    prompt: Sequence[int],
    request: Request | None,
) -> None:
    """A result of a managed batch is what the request gives alone, token for token."""
    tokens, logprobs = alone(model, steering, prompt, request, len(result.generated_tokens))
    assert result.prompt_ids == list(prompt)
    assert result.generated_tokens == tokens
    torch.testing.assert_close(torch.tensor(result.logprobs), logprobs, rtol=1e-5, atol=2e-5)


@contextmanager
def steps_of(manager: Any) -> Iterator[list[dict[str, Any]]]:
    """What each step of a manager, whose processor is made, is given, as it happens.

    Of each: ``requests`` (id, first token, tokens) in order, ``slots`` (a copy), ``address``.
    """
    inputs = manager.batch_processor.inputs_and_outputs
    prepare, kwargs, seen = inputs.prepare_batch_tensors, inputs.get_model_kwargs, []

    def watched_prepare(requests_in_batch, *args, **rest):
        states = [(each.state, each.query_length) for each in requests_in_batch]
        seen.append({"requests": [(s.request_id, s.position_offset, n) for s, n in states]})
        return prepare(requests_in_batch, *args, **rest)

    def watched_kwargs(*args, **rest):
        given = kwargs(*args, **rest)
        slots = given["emokernel_token_slot"]
        seen[-1] |= {"slots": slots.clone(), "address": slots.data_ptr()}
        seen[-1]["tokens"] = given["input_ids"].shape[1]
        return given

    vars(inputs).update(prepare_batch_tensors=watched_prepare, get_model_kwargs=watched_kwargs)
    try:
        yield seen
    finally:
        vars(inputs).update(prepare_batch_tensors=prepare, get_model_kwargs=kwargs)
