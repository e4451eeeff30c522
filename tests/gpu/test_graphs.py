"""Patched models replayed as CUDA graphs, torch.compile's and captured by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from targets import Target
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import PreTrainedModel, StaticCache

import emokernel
from emokernel import EmotionVectors, Request, Steering

ASKED: tuple[list, ...] = (
    [None],
    ["joy"],
    ["joy", None, Request("anger", 3.0, positions="last"), "sadness"],
    [Request("joy", -4.0, positions="generated"), Request("surprise", 3.0, law="add")],
)


@pytest.fixture
def twins(
    gpu: Target, tiny: Callable[..., PreTrainedModel], vectors: Callable[..., EmotionVectors]
) -> list[tuple[PreTrainedModel, Steering]]:
    """Twice the same model, patched."""
    torch._dynamo.reset()
    models = [tiny().to(gpu.device) for _ in range(2)]
    return [(model, emokernel.patch(model, vectors(), backend=gpu.name)) for model in models]


def test_reduce_overhead_replays_what_is_asked_now(twins, prompts: torch.Tensor) -> None:
    (model, steering), (eager, reference) = twins
    ids = prompts.to(model.device)
    model.forward = torch.compile(model.forward, fullgraph=True, mode="reduce-overhead")
    options = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": "static"}
    for asked in ASKED:
        with steering.requests(asked):
            got = model.generate(ids, **options)
        with reference.requests(asked):
            assert torch.equal(got, eager.generate(ids, disable_compile=True, **options))


def test_cuda_graphs_of_torch_compile_are_not_recorded_again(twins, prompts: torch.Tensor) -> None:
    (model, steering), _ = twins
    ids = prompts.to(model.device)
    counter = CompileCounterWithBackend("cudagraphs")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    with torch.no_grad():
        for asked in ASKED:
            with steering.requests(asked):
                compiled(input_ids=ids)
    assert counter.frame_count == 1


def test_a_captured_decoding_step_reads_what_is_asked_now(twins, prompts: torch.Tensor) -> None:
    (model, steering), (eager, reference) = twins
    device = model.device
    ids, lengths = prompts.to(device), [prompts.shape[1]] * len(prompts)
    token = torch.full((len(ids), 1), 7, device=device)
    caches = [StaticCache(config=model.config, max_cache_len=32) for _ in range(2)]
    with torch.no_grad():
        model(input_ids=ids, past_key_values=caches[0])
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(input_ids=token, past_key_values=caches[0])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = model(input_ids=token, past_key_values=caches[0]).logits
        for number, asked in enumerate(ASKED):
            for cache in caches:
                cache.reset()
            model(input_ids=ids, past_key_values=caches[0])
            eager(input_ids=ids, past_key_values=caches[1])
            token.fill_(10 + number)
            with reference.requests(asked, prompt_lengths=lengths[: len(asked)]):
                wanted = eager(input_ids=token, past_key_values=caches[1]).logits
            with steering.requests(asked, prompt_lengths=lengths[: len(asked)]):
                graph.replay()
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
