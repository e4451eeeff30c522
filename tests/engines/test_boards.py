"""The boards of a model say what was asked for last, whatever threads ask."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from noting import Noting

from emokernel.engines.board import Board, token_slot
from emokernel.engines.boards import Boards
from emokernel.engines.generation import Generation
from emokernel.engines.rows import Call, Plan, Prompts
from emokernel.errors import SteeringError
from emokernel.streams import Readers

CPU = torch.device("cpu")
HOLES = torch.tensor([[1, 0, 1]])


class State:
    """As much of a `DeviceState` as boards need."""

    def __init__(self):
        self.device, self.lock, self.readers = CPU, threading.RLock(), Readers()
        self.board = Board(4, CPU)

    def shown(self, batch=1):
        return token_slot(self.board, Call(batch, 1, 0, None, None)).tolist()


class Asked:
    """Requests for one slot."""

    def __init__(self, slot, mask=None):
        self.plan = Plan([slot], ["all"], attention_mask=mask)


def a_model(count=1):
    states = [State() for _ in range(count)]
    set_ = SimpleNamespace(plan=None)
    return states, set_, Boards(lambda: states, 4, lambda: set_.plan)


def test_two_callers_leave_what_was_asked_for_last(monkeypatch):
    """The first has read what is asked for, and writes it after the second has asked for more."""
    (state,), set_, boards = a_model()
    read, second = threading.Event(), threading.Event()
    boards._lock = Noting(boards._lock, second)
    show = Board.show

    def slow(board, plan, prompts):
        if threading.current_thread() is first:
            read.set()
            assert second.wait(10)
            show(board, plan, prompts)
        else:
            show(board, plan, prompts)
            second.set()

    monkeypatch.setattr(Board, "show", slow)
    first = threading.Thread(target=boards.put, args=(set_, "plan", Plan([1], ["all"])))
    first.start()
    assert read.wait(10)
    boards.put(set_, "plan", Plan([2], ["all"]))
    first.join()
    assert set_.plan.slot_of_all == 2
    assert state.shown() == [2]


def test_two_threads_make_one_board(monkeypatch):
    (state,), _, boards = a_model()
    state.board = None
    making, second = threading.Event(), threading.Event()
    state.lock = Noting(state.lock, second)
    made = []

    def slow(sequences, device):
        making.set()
        assert second.wait(10)
        made.append(Board(sequences, device))
        return made[-1]

    monkeypatch.setattr("emokernel.engines.boards.Board", slow)
    first = threading.Thread(target=boards.make, args=(state,))
    first.start()
    assert making.wait(10)
    boards.make(state)
    first.join()
    assert made == [state.board]


@contextmanager
def failing(boards, problem):
    """Whatever is announced fails."""
    announce, boards.announce = boards.announce, lambda: (_ for _ in ()).throw(problem)
    try:
        yield
    finally:
        boards.announce = announce


def behind(error):
    """All that the traceback of an error tells of before it."""
    while error is not None:
        error = error.__cause__ or error.__context__
        yield error


@pytest.mark.parametrize("cause", [None, KeyError("why")])
def test_the_error_of_the_block_is_told_and_what_followed_stands_behind_it(cause):
    (state,), _, boards = a_model()
    problem = SteeringError("the board is lost")
    caller = boards.caller(Asked(1))
    with (
        pytest.raises(ValueError, match="of the user") as found,
        failing_once(boards, problem, caller),
    ):
        raise ValueError("of the user") from cause
    assert problem in list(behind(found.value))
    assert found.value.__cause__ is cause
    assert cause is None or cause in list(behind(found.value))
    assert state.shown() == [-1]


@contextmanager
def failing_once(boards, problem, caller):
    """``caller``, at whose end nothing can be announced."""
    with caller:
        try:
            yield
        finally:
            boards.announce = lambda: (_ for _ in ()).throw(problem)


def test_what_goes_wrong_at_the_end_is_told_if_nothing_else_did():
    (state,), _, boards = a_model()
    problem = SteeringError("the board is lost")
    caller = boards.caller(Asked(1))
    caller.__enter__()
    assert state.shown() == [1]
    with failing(boards, problem), pytest.raises(SteeringError, match="the board is lost"):
        caller.__exit__(None, None, None)
    assert state.shown() == [-1], "what is over is not shown any more"


def test_a_batch_that_does_not_fit_does_not_hide_the_error_of_the_block():
    (state,), _, boards = a_model()
    state.board.use()
    asked = Asked(1)
    asked.plan = Plan([1, 2], ["all"] * 2)
    caller = boards.caller(asked)
    with pytest.raises(ValueError, match="of the user") as found, caller:
        raise ValueError("of the user" + "".join(map(str, state.shown(3))))
    assert any("no multiple of the requests" in str(each) for each in behind(found.value))
    with pytest.raises(SteeringError, match="no multiple"), boards.caller(asked):
        state.shown(3)


def test_what_a_board_cannot_hold_leaves_everything_as_it_was():
    """The first of two boards is not read, the second is."""
    states, set_, boards = a_model(2)
    boards.put(set_, "plan", Plan([1], ["all"]))
    states[1].board.use()
    with pytest.raises(SteeringError, match="attention_mask with holes"):
        boards.put(set_, "plan", Plan([2], ["all"], attention_mask=HOLES))
    assert set_.plan.slot_of_all == 1
    assert [state.shown() for state in states] == [[1], [1]]
    with (
        pytest.raises(SteeringError, match="attention_mask with holes"),
        boards.caller(Asked(2, HOLES)),
    ):
        pass
    assert [state.shown() for state in states] == [[1], [1]]
    with boards.caller(Asked(3)):
        assert [state.shown() for state in states] == [[3], [3]]


def test_callers_may_be_left_in_any_order_and_elsewhere():
    (state,), _, boards = a_model()
    first, second = Asked(1), Asked(2)
    boards.enter(first)
    boards.enter(second)
    boards.leave(first)
    assert state.shown() == [2]
    other = threading.Thread(target=boards.leave, args=(second,))
    other.start()
    other.join()
    assert state.shown() == [-1]
    boards.use(state)  # nothing is open


def test_a_thread_that_inherits_a_block_is_its_caller():
    (state,), _, boards = a_model()
    block = Asked(1)
    boards._inherited = lambda: (block,) if threading.current_thread() is thread else ()
    found = []

    def generate():
        with boards.caller(Generation(Prompts(2, None))):
            boards.use(state)
            found.append(state.shown())

    thread = threading.Thread(target=generate)
    with boards.caller(block):
        state.board.use()
        thread.start()
        thread.join()
    assert found == [[1]]


def test_who_wants_nothing_still_is_a_caller_of_its_own():
    """It would show nothing to the forwards of the other."""
    (state,), _, boards = a_model()
    with boards.caller(Asked(1)):
        state.board.use()
        errors = []

        def ask():
            try:
                boards.enter(Asked(-1))
            except SteeringError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert state.shown() == [1]
    assert "one caller at a time" in errors[0]


def test_nothing_can_be_wanted_where_nothing_can_be_steered():
    (state,), _, boards = a_model()
    state.board.use()
    with boards.caller(Asked(-1)), boards.caller(Generation(Prompts(2, None), "cannot be steered")):
        assert state.shown() == [-1]
