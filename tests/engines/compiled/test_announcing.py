"""What runs without Python is told what was asked for last, whatever threads ask."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch
from noting import Noting

from emokernel.choices import POSITIONS
from emokernel.engines.compiled import CompiledForwards
from emokernel.engines.compiled.plan_buffer import PlanBuffer, token_slot
from emokernel.engines.plan import BatchPlan, PaddedBatch, RecordedPrompts
from emokernel.engines.requested import OfSet, Requested
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import Asked
from emokernel.state.streams import Readers

CPU, ALL = torch.device("cpu"), POSITIONS["all"]
HOLES = torch.tensor([[1, 0, 1]])


class State:
    """As much of a `DeviceState` as plan buffers need."""

    def __init__(self):
        self.device, self.readers = CPU, Readers()
        self.plan_buffer = PlanBuffer(4, CPU)

    def shown(self, batch=1):
        return token_slot(self.plan_buffer, PaddedBatch(batch, 1, 0, None, None)).tolist()


class Requests:
    """Requests for one slot."""

    closed = False

    def __init__(self, slot, mask=None):
        self.plan = BatchPlan([slot], [ALL], attention_mask=mask)


def a_model(count=1):
    requested = Requested(4, lambda entry: entry, ALL)
    states = [State() for _ in range(count)]
    requested.states.devices = states
    return states, requested, CompiledForwards(requested)


def put(requested, slot, mask=None):
    """As `Requested.set`, whatever the mix."""
    plan = BatchPlan([slot], [ALL], attention_mask=mask)
    requested.callers.put(requested, "of_set", OfSet(None, Asked(None, ALL), plan))


@contextmanager
def calling(requested, caller):
    """While its requests are open, or it generates."""
    requested.callers.enter(caller)
    try:
        yield
    except BaseException as error:
        requested.callers.leave(caller, error)
        raise
    requested.callers.leave(caller)


def test_two_callers_leave_what_was_asked_for_last(monkeypatch):
    """The first has read what is asked for, and writes it after the second has asked for more."""
    (state,), requested, _ = a_model()
    read, second = threading.Event(), threading.Event()
    requested.callers._lock = Noting(requested.callers._lock, second)
    show = PlanBuffer.show

    def slow(*asked):
        if threading.current_thread() is first:
            read.set()
            assert second.wait(10)
            show(*asked)
        else:
            show(*asked)
            second.set()

    monkeypatch.setattr(PlanBuffer, "show", slow)
    first = threading.Thread(target=put, args=(requested, 1))
    first.start()
    assert read.wait(10)
    put(requested, 2)
    first.join()
    assert requested.of_set.plan.slot_of_all == 2
    assert state.shown() == [2]


def test_two_threads_make_one_buffer(monkeypatch):
    (state,), requested, compiled = a_model()
    state.plan_buffer = None
    making, second = threading.Event(), threading.Event()
    requested.states.lock = Noting(requested.states.lock, second)
    made = []

    def slow(sequences, device):
        making.set()
        assert second.wait(10)
        made.append(PlanBuffer(sequences, device))
        return made[-1]

    monkeypatch.setattr("emokernel.engines.compiled.engine.PlanBuffer", slow)
    first = threading.Thread(target=compiled.made, args=(state,))
    first.start()
    assert making.wait(10)
    compiled.made(state)
    first.join()
    assert made == [state.plan_buffer]


@contextmanager
def failing(requested, problem):
    """Whatever is announced fails."""
    callers = requested.callers
    announce, callers.announce = callers.announce, lambda: (_ for _ in ()).throw(problem)
    try:
        yield
    finally:
        callers.announce = announce


def behind(error):
    """All that the traceback of an error tells of before it."""
    while error is not None:
        error = error.__cause__ or error.__context__
        yield error


@pytest.mark.parametrize("cause", [None, KeyError("why")])
def test_the_error_of_the_block_is_told_and_what_followed_stands_behind_it(cause):
    (state,), requested, _compiled = a_model()
    problem = SteeringError("the buffer is lost")
    caller = calling(requested, Requests(1))
    with (
        pytest.raises(ValueError, match="of the user") as found,
        failing_once(requested, problem, caller),
    ):
        raise ValueError("of the user") from cause
    assert problem in list(behind(found.value))
    assert found.value.__cause__ is cause
    assert cause is None or cause in list(behind(found.value))
    assert state.shown() == [-1]


@contextmanager
def failing_once(requested, problem, caller):
    """``caller``, at whose end nothing can be announced."""
    with caller:
        try:
            yield
        finally:
            requested.callers.announce = lambda: (_ for _ in ()).throw(problem)


def test_what_goes_wrong_at_the_end_is_told_if_nothing_else_did():
    (state,), requested, _compiled = a_model()
    problem = SteeringError("the buffer is lost")
    caller = calling(requested, Requests(1))
    caller.__enter__()
    assert state.shown() == [1]
    with failing(requested, problem), pytest.raises(SteeringError, match="the buffer is lost"):
        caller.__exit__(None, None, None)
    assert state.shown() == [-1], "what is over is not shown any more"


def test_a_batch_that_does_not_fit_does_not_hide_the_error_of_the_block():
    (state,), requested, _compiled = a_model()
    state.plan_buffer.use()
    asked = Requests(1)
    asked.plan = BatchPlan([1, 2], [ALL] * 2)
    caller = calling(requested, asked)
    with pytest.raises(ValueError, match="of the user") as found, caller:
        raise ValueError("of the user" + "".join(map(str, state.shown(3))))
    assert any("no multiple of the requests" in str(each) for each in behind(found.value))
    with pytest.raises(SteeringError, match="no multiple"), calling(requested, asked):
        state.shown(3)


def test_what_a_buffer_cannot_hold_leaves_everything_as_it_was():
    """The first of two buffers is not read, the second is."""
    states, requested, _ = a_model(2)
    put(requested, 1)
    states[1].plan_buffer.use()
    with pytest.raises(SteeringError, match="attention_mask with holes"):
        put(requested, 2, HOLES)
    assert requested.of_set.plan.slot_of_all == 1
    assert [state.shown() for state in states] == [[1], [1]]
    with (
        pytest.raises(SteeringError, match="attention_mask with holes"),
        calling(requested, Requests(2, HOLES)),
    ):
        pass
    assert [state.shown() for state in states] == [[1], [1]]
    with calling(requested, Requests(3)):
        assert [state.shown() for state in states] == [[3], [3]]


def test_callers_may_be_left_in_any_order_and_elsewhere():
    (state,), requested, compiled = a_model()
    first, second = Requests(1), Requests(2)
    requested.callers.enter(first)
    requested.callers.enter(second)
    requested.callers.leave(first)
    assert state.shown() == [2]
    other = threading.Thread(target=requested.callers.leave, args=(second,))
    other.start()
    other.join()
    assert state.shown() == [-1]
    compiled.used(state)  # nothing is open


def test_a_thread_that_inherits_a_block_is_its_caller():
    (state,), requested, compiled = a_model()
    block = Requests(1)
    requested.callers._inherited = lambda: (block,) if threading.current_thread() is thread else ()
    found = []

    def generate():
        with calling(requested, Generation(RecordedPrompts(2, None))):
            compiled.used(state)
            found.append(state.shown())

    thread = threading.Thread(target=generate)
    with calling(requested, block):
        state.plan_buffer.use()
        thread.start()
        thread.join()
    assert found == [[1]]


def test_who_wants_nothing_still_is_a_caller_of_its_own():
    """It would show nothing to the forwards of the other."""
    (state,), requested, _compiled = a_model()
    with calling(requested, Requests(1)):
        state.plan_buffer.use()
        errors = []

        def ask():
            try:
                requested.callers.enter(Requests(-1))
            except SteeringError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert state.shown() == [1]
    assert "one caller at a time" in errors[0]


def test_nothing_can_be_wanted_where_nothing_can_be_steered():
    (state,), requested, _compiled = a_model()
    state.plan_buffer.use()
    generation = Generation(RecordedPrompts(2, None), "cannot be steered")
    with calling(requested, Requests(-1)), calling(requested, generation):
        assert state.shown() == [-1]
