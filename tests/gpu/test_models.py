"""Whole patched models on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from targets import Target
from transformers import PreTrainedModel

import emokernel
from emokernel import EmotionVectors


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
@pytest.mark.parametrize("site", ["attention", "block"])
def test_logits_are_those_of_the_reference(
    gpu: Target,
    tiny: Callable[..., PreTrainedModel],
    vectors: Callable[..., EmotionVectors],
    prompts: torch.Tensor,
    family: str,
    site: str,
) -> None:
    """fp32 and without TF32, so that matrix products leave room to see an error."""
    prompts = prompts.to(gpu.device)
    logits = {}
    for backend in (gpu.name, "reference"):
        model = tiny(family).to(gpu.device)
        steering = emokernel.patch(model, vectors(site), backend=backend)
        with torch.no_grad(), steering.requests([None, "joy", "anger", {"joy": 1, "sadness": -1}]):
            logits[backend] = model(prompts).logits
    torch.testing.assert_close(logits[gpu.name], logits["reference"], rtol=1e-4, atol=1e-4)


def test_generation_is_that_of_the_cpu(
    gpu: Target,
    tiny: Callable[..., PreTrainedModel],
    vectors: Callable[..., EmotionVectors],
    prompts: torch.Tensor,
) -> None:
    texts = []
    for device, backend in (("cpu", "cpu"), (gpu.device, gpu.name)):
        model = tiny().to(device)
        steering = emokernel.patch(model, vectors(), backend=backend)
        with steering.requests([None, "joy", "anger", emokernel.Request("sadness", 2.0)]):
            text = model.generate(prompts.to(device), max_new_tokens=8, do_sample=False)
        texts.append(text.cpu())
    assert torch.equal(*texts)


def test_cuda_is_chosen_before_triton(
    tiny: Callable[..., PreTrainedModel], vectors: Callable[..., EmotionVectors]
) -> None:
    steering = emokernel.patch(tiny().to("cuda"), vectors())
    assert steering.report().backend == "cuda"
