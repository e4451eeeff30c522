"""What cannot be is refused where it is asked for, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import gc
import queue
import weakref
from types import SimpleNamespace

import pytest
import torch
from engines.continuous.harness import alone, assert_as_alone, config, finished, greedy, managing

from emokernel import EmokernelError, Request
from emokernel.engines.continuous.managed import StepRows
from emokernel.engines.continuous.running import RunningRequests
from emokernel.errors import NoFreeSlotError, SteeringError, UnknownEmotionError
from emokernel.state import Tickets


def own_methods(*objects):
    """The methods of these objects that stand in the place of those of their class."""
    return [n for each in objects for n in vars(each) if callable(getattr(type(each), n, None))]


@pytest.mark.parametrize(
    ("emotion", "message"),
    [
        ("emotion", "unknown emotion 'emotion'"),
        (Request("emotion 1", law="sub"), "unknown law 'sub'"),
        (Request("emotion 1", positions="first"), "unknown positions 'first'"),
        (Request("emotion 1", float("nan")), "must be a finite number"),
        (7, "an emotion is a name"),
    ],
)
def test_a_bad_emotion_is_refused_by_add_request_and_the_manager_goes_on(
    steered, texts, emotion, message
):
    model, steering = steered()
    with managing(model) as manager:
        with pytest.raises(EmokernelError, match=message):
            manager.add_request(texts[0], emotion=emotion)
        with pytest.raises(EmokernelError, match=message):
            manager.add_requests(texts[:2], emotions=["emotion 1", emotion])
        assert manager.input_queue.empty()
        assert not manager.batch_processor.has_pending_requests()
        assert steering.requested.slots.held == 0
        request_id = manager.add_request(texts[0], emotion="emotion 1")
        result = finished(manager, 1)[request_id]
    assert_as_alone(model, steering, result, texts[0], "emotion 1")


def test_more_mixes_than_slots_are_refused_and_none_is_added(steered, texts):
    model, steering = steered(slots=2)
    names = ["emotion 1", "emotion 2", "emotion 3"]
    with managing(model) as manager:
        with pytest.raises(NoFreeSlotError, match="3 different mixes asked for, 2 of 2"):
            manager.add_requests(texts[:3], emotions=names)
        assert manager.input_queue.empty()
        assert steering.requested.slots.held == 0
    with managing(model, start=False) as manager:
        ids = manager.add_requests(texts[:4], emotions=[*names[:2], names[0], None])
        with pytest.raises(NoFreeSlotError, match="0 of 2 slots free"):
            manager.add_request(texts[4], emotion=names[2])
        assert manager.input_queue.qsize() == 4
        manager.start()
        assert set(finished(manager, 4)) == set(ids)
        request_id = manager.add_request(texts[4], emotion=names[2])
        result = finished(manager, 1)[request_id]
    assert_as_alone(model, steering, result, texts[4], names[2])


@pytest.mark.parametrize(
    ("requests", "options", "message"),
    [
        (["emotion 1"] * 2, {}, "2 requests do not fit 3 prompts"),
        (["emotion 1"] * 4, {}, "4 requests do not fit 3 prompts"),
        (["emotion 1"] * 3, {"prompt_lengths": [1, 2, 3]}, "knows its prompts"),
        (["emotion 1"], {"attention_mask": torch.ones(1, 4)}, "knows its prompts"),
    ],
)
def test_requests_that_do_not_fit_a_batch_are_refused_before_anything_runs(
    steered, texts, requests, options, message
):
    model, steering = steered()
    with steering.requests(requests, **options):
        with pytest.raises(SteeringError, match=message):
            model.generate_batch(texts[:3], greedy(), config())
        with managing(model, start=False) as manager:
            with pytest.raises(SteeringError, match=message):
                manager.add_requests(texts[:3])
            assert manager.input_queue.empty()
    assert steering.requested.slots.held == 0


@pytest.mark.parametrize("emotions", ["emotion 1", [], 5])
def test_emotions_must_be_a_list_that_fits(steered, texts, emotions):
    model, _ = steered()
    with (
        managing(model, start=False) as manager,
        pytest.raises(SteeringError, match=r"one entry per prompt|do not fit"),
    ):
        manager.add_requests(texts[:3], emotions=emotions)


def test_an_id_that_runs_already_is_refused(steered, texts):
    model, steering = steered()
    results = []
    with managing(model, start=False) as manager:
        manager.add_request(texts[0], request_id="a", emotion="emotion 1")
        with pytest.raises(SteeringError, match="'a' is running already"):
            manager.add_request(texts[1], request_id="a", emotion="emotion 2")
        assert steering.requested.slots.held == 1
        manager.start()
        results.append(finished(manager, 1)["a"])
        manager.add_request(texts[1], request_id="a", emotion="emotion 2")
        results.append(finished(manager, 1)["a"])
    assert_as_alone(model, steering, results[0], texts[0], "emotion 1")
    assert_as_alone(model, steering, results[1], texts[1], "emotion 2")


@pytest.mark.parametrize(("taken", "sequences"), [("req_1", 1), ("req_1__child#0", 2)])
def test_an_id_that_the_manager_would_choose_may_be_taken_already(steered, texts, taken, sequences):
    """By a request that was given it: that one is not disturbed."""
    model, steering = steered()
    with managing(model, start=False, sequences=sequences) as manager:
        manager.add_request(texts[0], request_id=taken, emotion="emotion 1")
        manager.add_request(texts[1], emotion="emotion 2")
        with pytest.raises(SteeringError, match="'req_1' is running already"):
            manager.add_request(texts[2], emotion="emotion 3")
        manager.add_request(texts[3], emotion="emotion 4")
        manager.start()
        results = finished(manager, 3 * sequences)
        assert steering.requested.slots.held == 0
    for request_id, at in ((taken, 0), ("req_0", 1), ("req_2", 3)):
        assert_as_alone(model, steering, results[request_id], texts[at], f"emotion {at + 1}")


def test_a_prompt_without_tokens_is_refused_and_nothing_is_added(steered, texts):
    """transformers would go on from the logits of the row before it."""
    model, steering = steered()
    with managing(model, start=False) as manager:
        for emotion in ("emotion 1", None):
            with pytest.raises(SteeringError, match="prompt 0 of 1 has no tokens: begin it with"):
                manager.add_request([], emotion=emotion)
        with pytest.raises(SteeringError, match="prompt 1 of 2 has no tokens"):
            manager.add_requests([texts[0], []], emotions=["emotion 1", "emotion 2"])
        assert manager.input_queue.empty()
    with pytest.raises(SteeringError, match="prompt 1 of 2 has no tokens"):
        model.generate_batch([texts[0], []], greedy(), config())
    assert steering.requested.slots.held == 0


def test_steered_requests_are_refused_under_tensor_parallelism(steered, texts, monkeypatch):
    model, steering = steered()
    with managing(model) as manager:
        monkeypatch.setattr(model, "_device_mesh", SimpleNamespace(size=lambda: 2), raising=False)
        with pytest.raises(SteeringError, match=r"tensor parallelism\) cannot be steered"):
            manager.add_request(texts[0], emotion="emotion 1")
        with pytest.raises(SteeringError, match="run the model in one process"):
            manager.add_requests(texts[:2], emotions=[None, "emotion 1"])
        assert steering.requested.slots.held == 0
        manager.add_request(texts[0])
        monkeypatch.setattr(model, "_device_mesh", SimpleNamespace(size=lambda: 1))
        manager.add_request(texts[0], emotion="emotion 1")
        finished(manager, 2)


def test_a_request_that_is_cancelled_before_it_forks_gives_its_slot_back(steered, texts):
    model, steering = steered()
    with managing(model, start=False, sequences=4) as manager:
        manager.cancel_request(manager.add_request(texts[0], emotion="emotion 1"))
        manager.start()
        manager.add_request(texts[1])
        finished(manager, 4)
        assert steering.requested.slots.held == 0


def wait_for(manager, request_id):
    """The result of one request, whatever others give meanwhile."""
    while True:
        result = manager.get_result(timeout=20)
        if result.request_id == request_id and result.is_finished():
            return result


def test_a_cancelled_request_gives_its_slot_back_and_disturbs_nobody(steered, texts):
    model, steering = steered()
    with managing(model) as manager:
        given = {"max_new_tokens": 1000, "streaming": True}
        streamed = manager.add_request(texts[0], emotion="emotion 1", **given)
        while not manager.get_result(timeout=20).generated_tokens:
            pass
        kept = manager.add_request(texts[1], emotion="emotion 2", max_new_tokens=12)
        manager.cancel_request(streamed)
        queued = manager.add_request(texts[2], emotion="emotion 3")
        manager.cancel_request(queued)
        result = wait_for(manager, kept)
        wait_for(manager, manager.add_request(texts[3]))
        assert steering.requested.slots.held == 0
    assert_as_alone(model, steering, result, texts[1], "emotion 2")


def test_a_manager_that_stops_takes_no_slot(steered, texts):
    model, steering = steered()
    with managing(model) as manager:
        manager.stop(block=False)
        assert manager.add_request(texts[0], emotion="emotion 1") is None
        assert steering.requested.slots.held == 0


@pytest.mark.filterwarnings("ignore")
def test_an_error_in_the_thread_fails_its_requests_and_gives_their_slots_back(
    steered, texts, monkeypatch
):
    model, steering = steered()
    with managing(model, start=False) as manager:
        ids = manager.add_requests(texts[:3], emotions=["emotion 1", "emotion 2", None])

        def broken(*args, **kwargs):
            raise RuntimeError("no more memory")

        monkeypatch.setitem(vars(model.lm_head), "forward", broken)
        manager.start()
        results = [manager.get_result(timeout=20) for _ in ids]
        assert {result.request_id for result in results} == set(ids)
        assert all("no more memory" in result.error for result in results)
        assert steering.requested.slots.held == 0


def test_requests_that_never_begin_hold_no_slot(steered, texts):
    """The batch cannot be made, or the queue of a manager is full after the first."""
    model, steering = steered()
    names = ["emotion 1", "emotion 2", "emotion 3"]
    with steering.requests(names):
        with pytest.raises(AttributeError, match="num_return_sequences"):
            model.generate_batch(texts[:3], generation_config=7)
        assert steering.requested.slots.held == 3  # the open block's own
    assert steering.requested.slots.held == 0
    with managing(model, start=False) as manager:
        put, added = manager.input_queue.put, []

        def full_after_one(state, **options):
            if added:
                raise queue.Full
            added.append(state.request_id)
            put(state, **options)

        vars(manager.input_queue)["put"] = full_after_one
        with pytest.raises(queue.Full):
            manager.add_requests(texts[:3], emotions=names)
        assert steering.requested.slots.held == 1
        manager.start()
        assert list(finished(manager, 1)) == added
        assert steering.requested.slots.held == 0


def test_a_request_that_fails_before_it_forks_gives_its_slot_back(steered, texts):
    model, steering = steered()
    with managing(model, sequences=4) as manager:
        manager.add_request(texts[3], emotion="emotion 1", no_such_option=1)
        assert "no_such_option" in manager.get_result(timeout=20).error
        assert steering.requested.slots.held == 0
        manager.add_request(texts[3], emotion="emotion 2")
        results = finished(manager, 4)
    for result in results.values():
        assert_as_alone(model, steering, result, texts[3], "emotion 2")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_requests_that_cannot_be_told_of_their_end_give_their_slots_back(steered, texts):
    """Whoever waits for them has closed the loop that they are delivered to."""
    model, steering = steered()
    closed = asyncio.new_event_loop()
    closed.close()
    with managing(model, start=False) as manager:
        ids = [
            manager.add_request(texts[at], emotion=f"emotion {at}", max_new_tokens=length)
            for at, length in enumerate((2, 40, 40))
        ]
        manager.output_router.result_handlers |= dict.fromkeys(ids, (print, closed))
        manager.start()
        manager._generation_thread.join(20)
        assert not manager.is_running()
        assert steering.requested.slots.held == 0


def test_a_manager_that_is_dropped_with_its_requests_gives_their_slots_back(steered, texts):
    model, steering = steered()
    manager = model.init_continuous_batching(greedy(), config())
    manager.add_requests(texts[:2], emotions=["emotion 1", "emotion 2"])
    assert steering.requested.slots.held == 2
    del manager
    gc.collect()
    assert steering.requested.slots.held == 0
    steering.unpatch()


def test_unpatch_waits_for_steered_requests_and_gives_everything_back(steered, texts):
    model, steering = steered()
    with managing(model, start=False) as manager:
        processor = manager.batch_processor
        parts = (
            manager, manager.output_router, processor.inputs_and_outputs, processor.cache,
            processor.scheduler,
        )  # fmt: skip
        assert len(own_methods(*parts)) == 12
        manager.add_requests(texts[:2], emotions=["emotion 1", None])
        with pytest.raises(SteeringError, match="1 steered requests"):
            steering.unpatch()
        manager.start()
        finished(manager, 2)
        steering.unpatch()
        assert own_methods(*parts, model) == []
        request_id = manager.add_request(texts[2])
        unsteered = finished(manager, 1)[request_id].generated_tokens
    plain, handle = steered()
    assert unsteered == alone(plain, handle, texts[2], None)[0]


def test_a_processor_goes_when_its_manager_is_stopped(steered):
    """The steering, and a manager that is kept, hold nothing of the cache."""
    model, _ = steered()
    with managing(model) as manager:
        cache = weakref.ref(manager.batch_processor.cache)
        assert cache() is not None
    gc.collect()
    assert manager.batch_processor is None
    assert cache() is None


def test_packed_calls_that_no_batch_announced_are_refused_if_anything_is_steered(steered, texts):
    """A manager that did not come from the patched model's own method knows of no emotions."""
    model, steering = steered()
    manager = type(model).init_continuous_batching(model, greedy(), config())
    manager.start()
    try:
        request_id = manager.add_request(texts[0])
        plain = finished(manager, 1)[request_id]
        steering.set("emotion 1")
        manager.add_request(texts[0])
        result = manager.get_result(timeout=20)
    finally:
        manager.stop(block=True, timeout=20)
    assert "continuous batching that this model has begun after" in result.error
    assert_as_alone(model, steering, plain, texts[0], None)


def test_unknown_emotions_say_what_is_near(steered, texts):
    model, _ = steered()
    with (
        managing(model, start=False) as manager,
        pytest.raises(UnknownEmotionError, match="Did you mean 'emotion 1'"),
    ):
        manager.add_request(texts[0], emotion="emotoin 1")


def test_two_sets_of_inputs_take_turns(steered):
    """On a GPU a batch is prepared while the one before runs: each has a buffer of its own."""
    _, steering = steered()
    tickets = Tickets(steering.requested.slots)
    running = RunningRequests(tickets)
    (ticket,) = tickets.take([steering.requested.resolve("emotion 1")], [3])
    running.add("a", ticket, 0)
    inputs = SimpleNamespace(io_pairs=[None, None], current_pair=0)
    rows = StepRows(running, inputs, 8, "cpu")
    state = SimpleNamespace(request_id="a", position_offset=0)

    def slots():
        given = rows.add_to(lambda: {"input_ids": torch.zeros(1, 5)})
        return given["emokernel_token_slot"].tolist()

    rows.prepare(lambda _: None, [SimpleNamespace(state=state, query_length=3)])
    inputs.current_pair, state.position_offset = 1, 3
    rows.prepare(lambda _: None, [SimpleNamespace(state=state, query_length=1)])
    slot = ticket.slots[0]
    assert slots() == [slot] + [-1] * 4
    inputs.current_pair = 0
    assert slots() == [slot] * 3 + [-1] * 2
    running.end("a")
    assert steering.requested.slots.held == 0
