"""The boards of a patched model: written whenever something else is asked for, by one caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from emokernel.engines.board import Board
from emokernel.engines.generation import Generation
from emokernel.engines.rows import Plan
from emokernel.errors import SteeringError
from emokernel.state import DeviceState


class Asking(Protocol):
    """Open requests."""

    plan: Plan


# All requests and generations that are open in this context, innermost last.
_here: ContextVar[tuple[Asking | Generation, ...]] = ContextVar("callers", default=())


class Boards:
    """Makes a board for each device when one is needed, and keeps it true.

    ``states``: those of the model. ``of_set``: the plan where no requests are open.
    """

    def __init__(
        self,
        states: Callable[[], Sequence[DeviceState]],
        sequences: int,
        of_set: Callable[[], Plan | None],
    ) -> None:
        self._states, self._sequences, self._of_set = states, sequences, of_set
        # What is open in any context, in order of entry; and what was open around it.
        self._open: list[tuple[Asking | Generation, tuple[Asking | Generation, ...]]] = []

    @contextmanager
    def caller(self, entering: Asking | Generation) -> Iterator[None]:
        """Within the block, requests are open or a generation runs.

        SteeringError at its begin if a board that is read cannot hold that, at its end if a call
        had a batch that did not fit.
        """
        around = _here.get()
        entry = entering, around
        token = _here.set((*around, entering))
        self._open.append(entry)
        try:
            self.announce()
            yield
        except BaseException:
            self._take_misfits()
            raise
        finally:
            _here.reset(token)
            self._open.remove(entry)
            self.announce()
        if self._take_misfits():
            raise SteeringError(
                "a compiled or captured call had a batch that is no multiple of the requests, and"
                " was not steered: give one request per sequence"
            )

    def announce(self) -> None:
        """Write what is asked for now for what was compiled or captured."""
        boards = self._boards()
        if not boards:
            return
        asking = [each for each, _ in self._open if not isinstance(each, Generation)]
        plan = asking[-1].plan if asking else self._of_set()
        generations = [each for each, _ in self._open if isinstance(each, Generation)]
        try:
            prompts = None
            if plan is not None:
                self._check_callers()
                prompts = generations[-1].traced_prompts() if generations else None
        except SteeringError as problem:
            for board in boards:
                board.refuse(problem)
        else:
            for board in boards:
                board.show(plan, prompts)

    def make(self, state: DeviceState) -> None:
        """The board of a device, if there is none yet."""
        if state.board is None:
            state.board = Board(self._sequences, state.device)
            self.announce()

    def use(self, state: DeviceState) -> None:
        """What is compiled or captured now reads this board; SteeringError if it cannot."""
        if {each for each, _ in self._open} - set(_here.get()):
            raise _one_caller()
        state.board.use()

    def _check_callers(self) -> None:
        """SteeringError if what is open was not opened one within the other."""
        for (outer, _), (_, around) in zip(self._open, self._open[1:], strict=False):
            if outer not in around:
                raise _one_caller()

    def _boards(self) -> list[Board]:
        return [state.board for state in self._states() if state.board is not None]

    def _take_misfits(self) -> bool:
        return any([board.used and board.take_misfit() for board in self._boards()])


def _one_caller() -> SteeringError:
    return SteeringError(
        "a compiled or captured model has one caller at a time, but another thread or task has"
        " requests open or generates: run one after the other, or give each a patched copy"
    )
