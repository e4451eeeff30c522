"""The boards of a patched model: written whenever something else is asked for, by one caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from emokernel.closing import finish
from emokernel.engines.board import Board
from emokernel.engines.generation import Generation
from emokernel.engines.rows import Plan, Prompts
from emokernel.errors import SteeringError
from emokernel.state import DeviceState


class Asking(Protocol):
    """Open requests."""

    plan: Plan


# All requests and generations that are open in this context, innermost last.
_here: ContextVar[tuple[Asking | Generation, ...]] = ContextVar("callers", default=())


class Boards:
    """Makes a board for each device when one is needed, and keeps it true; for any thread.

    ``states``: those of the model. ``of_set``: the plan where no requests are open.
    ``inherited``: what holds in a thread although it was opened in another.
    """

    def __init__(
        self,
        states: Callable[[], Sequence[DeviceState]],
        sequences: int,
        of_set: Callable[[], Plan | None],
        inherited: Callable[[], tuple[Asking, ...]] = tuple,
    ) -> None:
        self._states, self._sequences, self._of_set = states, sequences, of_set
        self._inherited = inherited
        # What is open in any context, in order of entry; and what was open around it.
        self._open: list[tuple[Asking | Generation, tuple[Asking | Generation, ...]]] = []
        # What is asked for is read, and written to the boards, by one thread at a time: otherwise
        # one could write what was asked for before another changed it.
        self._lock = threading.RLock()

    @contextmanager
    def caller(self, entering: Asking | Generation) -> Iterator[None]:
        """`enter` and `leave` around a block; what goes wrong in the block is what is raised."""
        self.enter(entering)
        try:
            yield
        except BaseException as error:
            self.leave(entering, error)
            raise
        self.leave(entering)

    def enter(self, entering: Asking | Generation) -> None:
        """Requests are open now, or a generation runs.

        SteeringError if a board that is read cannot hold that; nothing changes then.
        """
        around = _here.get()
        if isinstance(entering, Generation):  # of the same caller, who generates in a thread
            around = (*self._inherited(), *around)
        with self._lock:
            self._open.append((entering, around))
            try:
                self.announce()
            except BaseException as error:
                finish(error, partial(self._forget, entering))
                raise
        _here.set((*_here.get(), entering))

    def leave(self, leaving: Asking | Generation, error: BaseException | None = None) -> None:
        """They are not any more, in whatever order they are left.

        SteeringError if a call had a batch that did not fit; told behind ``error`` if that has
        ended the block.
        """
        _here.set(tuple(each for each in _here.get() if each is not leaving))
        check = partial(self._check_outlived, leaving)
        finish(error, partial(self._forget, leaving), self._check_fitted, check)

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that says what is asked for; everything as it was if that fails."""
        with self._lock:
            kept = getattr(owner, name)
            setattr(owner, name, value)
            try:
                self.announce()
            except BaseException as error:
                setattr(owner, name, kept)
                finish(error, self.announce)
                raise

    def announce(self) -> None:
        """Write what is asked for now for what was compiled or captured."""
        with self._lock:
            states = [state for state in self._states() if state.board is not None]
            if not states:
                return
            asking = [each for each, _ in self._open if not isinstance(each, Generation)]
            plan = asking[-1].plan if asking else self._of_set()
            generations = [each for each, _ in self._open if isinstance(each, Generation)]
            prompts = problem = None
            try:
                if asking or plan is not None:
                    self._check_callers()
                if plan is not None and plan.asks_nothing:
                    plan = None
                if plan is not None and generations:
                    prompts = generations[-1].traced_prompts()
            except SteeringError as found:
                problem = found
            for state in states:
                with state.lock:  # no other thread gives it another board meanwhile
                    _write(state, plan, prompts, problem)

    def _forget(self, leaving: Asking | Generation) -> None:
        with self._lock:
            self._open = [each for each in self._open if each[0] is not leaving]
            for each, around in self._open:
                if isinstance(each, Generation) and leaving in around:
                    each.outlived = True
            try:
                self.announce()
            except SteeringError:
                for board in self._boards():  # rather nothing than what is over
                    board.clear()
                raise

    def make(self, state: DeviceState) -> None:
        """The board of a device, if there is none yet."""
        with state.lock, self._lock:  # in this order, since a forward that asks holds the first
            if state.board is None:
                state.board = Board(self._sequences, state.device)
                self.announce()

    def use(self, state: DeviceState) -> None:
        """What is compiled or captured now reads this board; SteeringError if it cannot."""
        with self._lock:
            if {each for each, _ in self._open} - {*self._inherited(), *_here.get()}:
                raise _one_caller()
            state.board.use()

    def _check_callers(self) -> None:
        """SteeringError if what is open was not opened one within the other."""
        for (outer, _), (_, around) in zip(self._open, self._open[1:], strict=False):
            if outer not in around:
                raise _one_caller()

    def _boards(self) -> list[Board]:
        return [state.board for state in self._states() if state.board is not None]

    def _check_outlived(self, left: Asking | Generation) -> None:
        """SteeringError for a generation that went on, without Python, when its requests closed."""
        outlived = getattr(left, "outlived", False)
        if outlived and any(board.used for board in self._boards()):
            raise SteeringError(
                "the requests block within which this generation began was closed before its end:"
                " what it made since was not steered; wait for it within the block"
            )

    def _check_fitted(self) -> None:
        if any([board.used and board.take_misfit() for board in self._boards()]):
            raise SteeringError(
                "a compiled or captured call had a batch that is no multiple of the requests, and"
                " was not steered: give one request per sequence"
            )


def _write(
    state: DeviceState, plan: Plan | None, prompts: Prompts | None, problem: SteeringError | None
) -> None:
    board = state.board
    if board.used:  # forwards on other streams that are on their way read the whole of it
        state.readers.wait_for_all()
    if problem is not None:
        board.refuse(problem)
    else:
        board.show(plan, prompts)


def _one_caller() -> SteeringError:
    return SteeringError(
        "a compiled or captured model has one caller at a time, but another thread or task has"
        " requests open or generates: run one after the other, or give each a patched copy"
    )
