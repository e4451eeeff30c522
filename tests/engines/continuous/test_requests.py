"""Each request of a managed batch gets its own emotion, as if it ran alone."""

from __future__ import annotations

import pytest
import torch
from engines.continuous.harness import (
    POSITIONS,
    alone,
    assert_as_alone,
    config,
    finished,
    greedy,
    managing,
    steps_of,
)

from emokernel import Affect, Request


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_32_requests_with_32_emotions_that_join_and_leave(steered, texts, different, attention):
    model, steering = steered(attention=attention)
    lengths = [3 + number % 7 for number in range(32)]
    with managing(model) as manager:
        ids = [
            manager.add_request(text, max_new_tokens=length, emotion=request, streaming=True)
            for text, length, request in zip(texts[:12], lengths, different, strict=False)
        ]
        while len(manager.get_result(timeout=20).generated_tokens) < 2:
            pass  # the first texts are being written
        for at in range(12, 32):
            given = {"max_new_tokens": lengths[at], "emotion": different[at]}
            ids.append(manager.add_request(texts[at], **given))
        results = finished(manager, 32)
        assert steering.requested.slots.held == 0
    told = [results[request_id] for request_id in ids]
    assert [len(result.generated_tokens) for result in told] == lengths
    for result, text, request in zip(told, texts, different, strict=True):
        assert_as_alone(model, steering, result, text, request)
    # The emotions do make a difference, or all of this would show nothing.
    plain = [alone(model, steering, text, None)[1][-1] for text in texts]
    changed = [abs(r.logprobs[-1] - p) > 1e-3 for r, p in zip(told, plain, strict=True)]
    assert sum(changed) >= 30


def test_generate_batch_gives_each_prompt_its_own_request(steered, texts, different):
    model, steering = steered()
    with steering.requests(different):
        results = model.generate_batch(texts, greedy(), config())
    for result, text, request in zip(results.values(), texts, different, strict=True):
        assert_as_alone(model, steering, result, text, request)
    assert steering.requested.slots.held == 0


def test_the_thread_of_a_manager_is_asked_for_nothing(steered, texts, different, recwarn):
    """Whatever is open, and whatever was when it was started: its requests have tickets."""
    model, steering = steered()
    with steering.requests(["emotion 1"]), managing(model) as manager:
        with steering.requests(["emotion 2"]):
            ids = manager.add_requests(texts[:2], emotions=different[:2], max_new_tokens=4)
        results = finished(manager, 2)
    for request_id, text, request in zip(ids, texts, different, strict=False):
        assert_as_alone(model, steering, results[request_id], text, request)
    with steering.requests(["emotion 1"]):
        starts = managing(model)
        manager = starts.__enter__()
    request_id = manager.add_request(texts[0], emotion=different[0], max_new_tokens=4)
    assert_as_alone(model, steering, finished(manager, 1)[request_id], texts[0], different[0])
    starts.__exit__(None, None, None)
    assert not [each for each in recwarn.list if "requests block" in str(each.message)]


def test_one_request_serves_all_prompts_and_set_serves_those_without(steered, texts, different):
    model, steering = steered()
    steering.set("emotion 1", 3.0, positions="generated")
    by_set = model.generate_batch(texts[:3], greedy(), config())
    with steering.requests([different[0]]):
        by_one = model.generate_batch(texts[:3], greedy(), config())
    steering.off()
    untouched = model.generate_batch(texts[:3], greedy(), config())
    wanted = Request("emotion 1", 3.0, positions="generated"), different[0], None
    for results, request in zip((by_set, by_one, untouched), wanted, strict=True):
        for result, text in zip(results.values(), texts, strict=False):
            assert_as_alone(model, steering, result, text, request)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "sliding", "hybrid"])
def test_a_prompt_split_over_steps(steered, texts, family, positions):
    """Five tokens a step: prompts come in pieces, the last of which may be one token."""
    model, steering = steered(family)
    requests = [Request(name, 2.0, positions=positions) for name in ("emotion 4", "emotion 5")]
    prompts = [texts[3], texts[4]]
    with managing(model, start=False, max_batch_tokens=5) as manager, steps_of(manager) as steps:
        ids = manager.add_requests(prompts, emotions=requests)
        manager.start()
        results = finished(manager, 2)
    assert sum(tokens < 5 for step in steps for _, _, tokens in step["requests"]) > 4
    for request_id, prompt, request in zip(ids, prompts, requests, strict=True):
        assert sum(told[0] == request_id and told[1] < len(prompt) - 1
                   for step in steps for told in step["requests"]) > 2  # fmt: skip
        assert_as_alone(model, steering, results[request_id], prompt, request)


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_was_generated_before_an_eviction_stays_generated(steered, texts, positions):
    """A cache too small for all: transformers turns the tokens of some into prompt, and reruns."""
    model, steering = steered()
    requests = [Request(f"emotion {at + 7}", 2.0, positions=positions) for at in range(6)]
    prompts = [(text * 8)[:8] for text in texts[:6]]
    with managing(model, start=False, page=4, num_blocks=12) as manager:
        scheduler, evicted = manager.batch_processor.scheduler, []
        wait = scheduler.add_waiting_request
        vars(scheduler)["add_waiting_request"] = lambda state: (
            evicted.append(state) if state._true_initial_tokens else None, wait(state)
        )  # fmt: skip
        ids = manager.add_requests(prompts, emotions=requests, max_new_tokens=10)
        manager.start()
        results = finished(manager, 6)
        assert steering.requested.slots.held == 0
    assert any(len(state.initial_tokens) > 8 for state in evicted)
    for request_id, prompt, request in zip(ids, prompts, requests, strict=True):
        tokens, _ = alone(model, steering, prompt, request, 10)
        assert results[request_id].generated_tokens == tokens


@pytest.mark.parametrize("blocks", [128, 10])
def test_forks_of_a_request_are_steered_like_it(steered, texts, different, blocks):
    """With few blocks, some of them do not fit and are prefilled on their own later."""
    model, steering = steered()
    with managing(model, start=False, sequences=4, num_blocks=blocks) as manager:
        ids = manager.add_requests(texts[4:7], emotions=different[:3])
        manager.start()
        results = finished(manager, 12)
        assert steering.requested.slots.held == 0
    for request_id, result in results.items():
        at = ids.index(request_id.partition("__")[0])
        assert_as_alone(model, steering, result, texts[4 + at], different[at])


@pytest.mark.parametrize("positions", POSITIONS)
def test_rows_of_padding_are_untouched(steered, texts, positions):
    model, steering = steered()
    request = Request("emotion 1", 2.0, positions=positions)
    with managing(model, start=False, q_padding_interval_size=32) as manager:
        manager.batch_processor.model_runner.pad_inputs = True  # as for graphs and torch.compile
        with steps_of(manager) as steps:
            ids = manager.add_requests(texts[:4], emotions=[request, None, request, request])
            manager.start()
            results = finished(manager, 4)
    assert len({step["address"] for step in steps}) == 1
    for step in steps:
        real = sum(tokens for _, _, tokens in step["requests"])
        assert real < step["tokens"] == len(step["slots"])
        assert (step["slots"][real:] == -1).all()
    assert any((step["slots"] != -1).any() for step in steps)
    for request_id, text, asked in zip(ids, texts, [request, None, request, request], strict=False):
        assert_as_alone(model, steering, results[request_id], text, asked)


def test_unsteered_neighbours_keep_their_bits(steered, texts, different):
    """Two runs of the same batches, one with every other request steered."""
    model, _ = steered()

    def run(requests):
        with managing(model, start=False, allow_block_sharing=False) as manager:
            ids = manager.add_requests(texts[:8], emotions=requests)
            manager.start()
            results = finished(manager, 8)
        return [results[request_id] for request_id in ids]

    plain, mixed = run([None] * 8), run([different[at] if at % 2 else None for at in range(8)])
    for at in range(0, 8, 2):
        assert plain[at].logprobs == mixed[at].logprobs
    assert all(plain[at].logprobs != mixed[at].logprobs for at in range(1, 8, 2))


def test_a_request_keeps_what_was_asked_for_when_it_was_added(steered, texts):
    model, steering = steered()
    first, second = Request("emotion 1", 2.0), Request({"emotion 2": 1.0, "emotion 3": 2.0})
    with managing(model, start=False) as manager:
        steering.set("emotion 1", 2.0)
        ids = [manager.add_request(texts[0])]
        steering.set("emotion 5", 2.0)
        with steering.requests([second]):
            ids.append(manager.add_request(texts[1]))
            ids.append(manager.add_request(texts[2], emotion=None))
        steering.off()
        ids.append(manager.add_request(texts[3]))
        manager.start()
        results = finished(manager, 4)
    for request_id, text, asked in zip(ids, texts, (first, second, None, None), strict=False):
        assert_as_alone(model, steering, results[request_id], text, asked)


def test_an_emotion_may_be_a_name_a_mix_or_a_point(model_of, texts, vectors):
    from emokernel import patch

    model = model_of()
    steering = patch(model, vectors("block"))
    asked = ["joy", {"anger": 2.0, "joy": -1.0}, Affect(0.6, 0.6), Request("joy", law="add")]
    with managing(model) as manager:
        ids = [manager.add_request(texts[at], emotion=each) for at, each in enumerate(asked)]
        results = finished(manager, 4)
    for request_id, text, each in zip(ids, texts, asked, strict=False):
        assert_as_alone(model, steering, results[request_id], text, each)


def test_a_second_session_of_a_kept_manager_has_its_own_emotions(steered, texts):
    """Its cache holds the blocks of the first, in the slots that the second uses again."""
    model, steering = steered()
    prompts = [texts[4] + texts[5], texts[4] + texts[6]]
    try:
        for name in ("emotion 1", "emotion 2", None):
            with steering.requests([name]):
                results = model.generate_batch(prompts, greedy(), config(), persistent_manager=True)
            for result, prompt in zip(results.values(), prompts, strict=True):
                assert_as_alone(model, steering, result, prompt, name)
    finally:
        model.destroy_cached_continuous_batching_manager()


def test_a_step_costs_one_copy_to_a_fixed_address(steered, texts, different):
    model, _ = steered()
    with managing(model, start=False) as manager, steps_of(manager) as steps:
        manager.add_requests(texts, emotions=different)
        manager.start()
        finished(manager, 32)
    assert len(steps) > 6
    assert len({step["address"] for step in steps}) == 1
    busiest = max(steps, key=lambda step: len(step["requests"]))
    slots = set(busiest["slots"].tolist())
    assert len(slots - {-1}) > 10
    assert torch.int32 == busiest["slots"].dtype


def test_a_manager_that_compiles_its_steps_steers_them(steered, texts, different):
    """The steps are padded then; what is asked for compiles nothing anew."""
    from torch._dynamo.utils import counters
    from transformers import CompileConfig

    model, steering = steered()
    compiling = CompileConfig(backend="eager", mode=None, fullgraph=False)
    sizes = {"q_padding_interval_size": 64, "kv_padding_interval_size": 2048}
    compiled = []
    for requests in (different[:6], different[6:12], [None] * 6):
        with steering.requests(requests):
            results = model.generate_batch(
                texts[:6], greedy(), config(varlen_compile_config=compiling, **sizes)
            )
        compiled.append(counters["stats"]["unique_graphs"])
        for result, text, request in zip(results.values(), texts, requests, strict=False):
            assert_as_alone(model, steering, result, text, request)
    assert compiled[0] > 0
    assert len(set(compiled)) == 1
