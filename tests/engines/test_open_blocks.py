"""Which `requests` block holds in a thread, and that a closed one holds nowhere."""

from __future__ import annotations

import _thread
import asyncio
import queue
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emokernel import patch
from emokernel.engines.callers import Callers
from emokernel.errors import SteeringError


class Worker:
    """A thread that runs what it is given, one call after the other, in a context of its own."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1)
        self("started".upper)

    def __call__(self, call, *args):
        return self._pool.submit(call, *args).result()


@pytest.fixture
def workers():
    made = []

    def start():
        made.append(Worker())
        return made[-1]

    yield start
    for worker in made:
        worker._pool.shutdown()


@pytest.fixture
def steered(tiny, vectors, prompts):
    """(The handle of a patched model; what it computes now; that by emotion)."""
    model = tiny()
    steering = patch(model, vectors())

    def logits():
        with torch.no_grad():
            return model(prompts).logits

    wanted = {}
    for emotion in (None, "joy", "anger"):
        with steering.requests([emotion]):
            wanted[emotion] = logits()
    return steering, logits, wanted


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_thread_started_in_the_one_open_block_is_steered_and_told_once(steered, workers):
    steering, logits, wanted = steered
    with steering.requests(["joy"]), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for worker in [workers(), workers()] * 2:
            assert torch.equal(worker(logits), wanted["joy"])
    (notice,) = told
    assert "requests([None]) for nothing" in str(notice.message)


def test_a_thread_that_was_there_before_is_not_steered(steered, workers, recwarn):
    steering, logits, wanted = steered
    before = workers()
    with steering.requests(["joy"]):
        assert torch.equal(before(logits), wanted[None])
    assert not recwarn.list


def test_a_thread_started_in_a_block_that_is_closed_is_refused(steered, workers, quiet):
    steering, logits, wanted = steered
    with steering.requests(["joy"]):
        asked, never_asked = workers(), workers()
        asked(logits)
    for worker in (asked, never_asked):
        with pytest.raises(SteeringError, match=r"has been closed.*requests\(\[None\]\)"):
            worker(logits)
    with steering.requests(["anger"]):  # which is another's
        for worker in (asked, never_asked):
            with pytest.raises(SteeringError, match="has been closed"):
                worker(logits)

    def own(emotion):
        with steering.requests([emotion]):
            return logits()

    for emotion in ("joy", None):
        assert torch.equal(asked(own, emotion), wanted[emotion])
    assert torch.equal(workers()(logits), wanted[None])


@pytest.mark.parametrize("nested", [True, False])
def test_a_thread_started_in_several_blocks_has_to_choose(nested, steered, workers, quiet):
    steering, logits, wanted = steered
    holder = (lambda call, *args: call(*args)) if nested else workers()
    first, second = steering.requests(["joy"]), steering.requests(["anger"])
    holder(first.__enter__)
    second.__enter__()
    worker = workers()
    with pytest.raises(SteeringError, match=r"2 requests blocks were open.*requests\(\[None\]\)"):
        worker(logits)
    second.__exit__(None, None, None)
    with pytest.raises(SteeringError, match="has been closed"):  # and is not the other's
        worker(logits)
    assert torch.equal(workers()(logits), wanted["joy"])
    holder(first.__exit__, None, None, None)


def test_a_block_that_opens_later_does_not_take_a_thread_away(steered, workers, quiet):
    steering, logits, wanted = steered
    with steering.requests(["joy"]):
        worker = workers()
        with steering.requests(["anger"]):
            assert torch.equal(worker(logits), wanted["joy"])
            assert torch.equal(logits(), wanted["anger"])

        def own():
            with steering.requests(["anger"]):
                return logits()

        assert torch.equal(worker(own), wanted["anger"])
        assert torch.equal(worker(logits), wanted["joy"])


def test_a_pool_started_within_a_block_is_steered_where_an_older_one_is_not(
    steered, workers, quiet
):
    steering, logits, wanted = steered
    with ThreadPoolExecutor(1) as older, ThreadPoolExecutor(1) as lazy:
        older.submit(str).result()
        with steering.requests(["joy"]):
            assert torch.equal(lazy.submit(logits).result(), wanted["joy"])
            assert torch.equal(older.submit(logits).result(), wanted[None])


def test_a_thread_that_python_did_not_start_is_there_once_python_has_seen_it(steered, quiet):
    """Such as those that torch runs backward passes in: since when they are there is not known."""
    steering, logits, wanted = steered

    def foreign():
        calls, results = queue.SimpleQueue(), queue.SimpleQueue()

        def serve():
            while (call := calls.get()) is not None:
                try:
                    results.put(call())
                except SteeringError as error:
                    results.put(error)

        def ask(call):
            calls.put(call)
            return call and results.get(timeout=20)

        _thread.start_new_thread(serve, ())
        return ask

    seen, unseen = foreign(), foreign()
    assert torch.equal(seen(logits), wanted[None])
    with steering.requests(["joy"]):
        assert torch.equal(seen(logits), wanted[None])
        assert torch.equal(unseen(logits), wanted["joy"])
    assert torch.equal(seen(logits), wanted[None])
    seen(None), unseen(None)


def test_a_context_that_a_pool_is_handed_goes_before_the_birth_of_its_thread(steered, quiet):
    """Tasks of two users, whose work runs in whatever thread of the pool is free."""
    steering, logits, wanted = steered
    opened, done = asyncio.Event(), asyncio.Event()

    async def one():
        with steering.requests(["joy"]):
            assert torch.equal(await asyncio.to_thread(logits), wanted["joy"])
            opened.set()
            await done.wait()

    async def another():
        await opened.wait()
        assert torch.equal(await asyncio.to_thread(logits), wanted[None])
        with steering.requests(["anger"]):
            assert torch.equal(await asyncio.to_thread(logits), wanted["anger"])
        done.set()

    async def both():
        await asyncio.gather(one(), another())
        assert torch.equal(await asyncio.to_thread(logits), wanted[None])

    asyncio.run(both())


def test_a_block_that_the_collector_ends_does_not_wait_for_itself(steered):
    """A forgotten stream, whose block is closed wherever Python collects it."""
    steering, logits, wanted = steered

    def stream():
        with steering.requests(["joy"]):
            yield

    forgotten = stream()
    next(forgotten)
    with steering.requested.callers._lock, steering.requested.slots._lock:
        del forgotten
    assert torch.equal(logits(), wanted[None])
    with steering.requests(["anger"]):
        assert torch.equal(logits(), wanted["anger"])
    assert steering.requested.slots.held == 0


def test_the_blocks_of_another_model_do_not_count(
    steered, tiny, vectors, prompts, workers, recwarn
):
    steering, logits, wanted = steered
    model = tiny()
    other = patch(model, vectors())
    with other.requests(["joy"]), other.requests(["anger"]):
        worker = workers()
        assert torch.equal(worker(logits), wanted[None])
        with steering.requests(["joy"]):
            assert torch.equal(workers()(logits), wanted["joy"])
    assert torch.equal(worker(logits), wanted[None])


def test_a_copied_context_does_not_outlive_its_block(steered):
    steering, logits, wanted = steered
    with steering.requests(["joy"]):
        context = copy_context()
        assert torch.equal(context.run(logits), wanted["joy"])
    with pytest.raises(SteeringError, match="copy of the context of a requests block"):
        context.run(logits)
    # Another block, of another context.
    with steering.requests(["anger"]), pytest.raises(SteeringError, match="has been closed"):
        context.run(logits)

    def own():
        with steering.requests(["anger"]):
            return logits()

    assert torch.equal(context.run(own), wanted["anger"])
    assert torch.equal(logits(), wanted[None])


def test_a_task_does_not_outlive_its_block(steered):
    steering, logits, wanted = steered

    async def late(closed):
        inside = logits()
        await closed.wait()
        with pytest.raises(SteeringError, match="has been closed"):
            logits()
        return inside

    async def main():
        closed = asyncio.Event()
        with steering.requests(["joy"]):
            task = asyncio.create_task(late(closed))
            await asyncio.sleep(0)
        assert torch.equal(logits(), wanted[None])
        closed.set()
        return await task

    assert torch.equal(asyncio.run(main()), wanted["joy"])


def test_blocks_of_one_context_may_be_closed_in_any_order(steered):
    steering, logits, wanted = steered
    first, second = steering.requests(["joy"]), steering.requests(["anger"])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.equal(logits(), wanted["anger"])
    second.__exit__(None, None, None)
    assert torch.equal(logits(), wanted[None])
    assert steering.requested.slots.held == 0


def test_a_block_may_be_closed_in_another_thread(steered, workers):
    steering, logits, _ = steered
    block = steering.requests(["joy"])
    block.__enter__()
    workers()(block.__exit__, None, None, None)
    assert steering.requested.slots.held == 0
    with pytest.raises(SteeringError, match="has been closed"):
        logits()
    block.__exit__(None, None, None)  # harmless


def test_a_block_is_entered_once(steered):
    steering, logits, wanted = steered
    block = steering.requests(["joy"])
    with block:
        with pytest.raises(SteeringError, match="entered once"):
            block.__enter__()
        assert torch.equal(logits(), wanted["joy"])
    with pytest.raises(SteeringError, match="entered once"):
        block.__enter__()
    assert torch.equal(logits(), wanted[None])


@pytest.mark.parametrize("what", ["change", "for_batching"])
def test_what_is_closed_takes_nothing_more(what, steered):
    steering, *_ = steered
    ask = {
        "change": lambda block: block.change(["anger"]),
        "for_batching": lambda b: b.for_batching(),
    }
    early = steering.requests(["joy"])
    with pytest.raises(SteeringError, match="not open"):
        ask[what](early)
    with steering.requests(["joy"]) as block:
        pass
    with steering.requests(["joy"]):
        with pytest.raises(SteeringError, match="not open"):
            ask[what](block)
        assert steering.requested.slots.held == 1
    assert steering.requested.slots.held == 0


def test_a_change_that_meets_the_end_of_its_block_frees_nothing_of_others(steered, monkeypatch):
    """The change has begun when the block ends: what it holds is given back all the same."""
    steering, *_ = steered
    changing, closing = threading.Event(), threading.Event()
    put = steering.requested.callers.put

    def slow(*args):
        changing.set()
        assert closing.wait(10)
        put(*args)

    block = steering.requests(["joy"])
    block.__enter__()
    monkeypatch.setattr(steering.requested.callers, "put", slow)
    forget = steering.requested.callers._forget

    def forgetting(*args):
        forget(*args)
        closing.set()

    monkeypatch.setattr(steering.requested.callers, "_forget", forgetting)
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(block.change, ["anger"])
        assert changing.wait(10)
        block.__exit__(None, None, None)
        change.result()
    assert steering.requested.slots.held == 0


def test_nothing_is_asked_of_threads_where_no_block_was_open(monkeypatch):
    """Which is asked in every forward call."""
    monkeypatch.setattr(Callers, "_of_thread", None)
    assert Callers(threading.RLock()).current() is None


class Asked:
    def __init__(self):
        self.closed = False


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["open", "close", "start", "ask"]), st.integers(0, 3))))
def test_a_thread_belongs_to_what_was_open_when_it_was_started(steps):
    """Against the plain rule, for any order of openings, closings and starts."""
    blocks, opened, threads = Callers(threading.RLock()), [], []
    keeper = Worker()

    def expected(born):
        if any(block.closed for block in born):
            return "closed"
        return "several" if len(born) > 1 else (born[0] if born else None)

    def asked():
        try:
            return blocks.current()
        except SteeringError as error:
            return "closed" if "closed" in str(error) else "several"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what, number in steps:
            if what == "open":
                opened.append(Asked())
                keeper(blocks.enter, opened[-1])
            elif what == "close" and opened:
                block = opened.pop(number % len(opened))
                block.closed = True
                keeper(blocks.leave, block)
            elif what == "start":
                threads.append((Worker(), list(opened)))
            for worker, born in threads:
                assert worker(asked) == expected(born)
    for worker in [keeper, *(worker for worker, _ in threads)]:
        worker._pool.shutdown()


def _closed(steering, opened):
    opened.__exit__(None, None, None)
    with steering.requests(["anger"]), steering.requests(["sadness"]):
        pass


def _changed(steering, opened):
    opened.change(["sadness"])
    with steering.requests(["anger"]):
        pass
    opened.change(["surprise"])


def _set_again(steering, _):
    for emotion in ("sadness", "anger", "surprise"):
        steering.set(emotion)


@pytest.mark.parametrize("meanwhile", [_closed, _changed, _set_again])
def test_a_forward_that_runs_is_steered_by_what_held_when_it_began(
    meanwhile, tiny, vectors, prompts, quiet
):
    """Its slot may be given out and written again before it has reached its last layer."""
    model = tiny()
    steering = patch(model, vectors("block"), slots=3)
    begun, go_on = threading.Event(), threading.Event()
    go_on.set()

    def pause(*_):
        begun.set()
        assert go_on.wait(20)

    model.model.layers[0].register_forward_hook(pause)

    def logits():
        with torch.no_grad():
            return model(prompts).logits

    steering.set("joy")
    wanted = logits()
    steering.off()
    opened = steering.requests(["joy"])
    if meanwhile is _set_again:
        steering.set("joy")
    else:
        opened.__enter__()
    begun.clear(), go_on.clear()
    found = []
    thread = threading.Thread(target=lambda: found.append(logits()))
    thread.start()
    assert begun.wait(20)
    meanwhile(steering, opened)
    go_on.set()
    thread.join()
    opened.__exit__(None, None, None)
    assert torch.equal(found[0], wanted)
