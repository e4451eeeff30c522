"""Who asks something of a model, in any context, and who is told when that changes.

What runs without Python has one caller at a time, whose wishes are announced to it.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

from emokernel.engines.closing import finish
from emokernel.engines.open_blocks import OpenBlocks
from emokernel.engines.plan import BatchPlan
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import Asked, ModelState


class Requests(Protocol):
    """The requests of an open block."""

    plan: BatchPlan | None
    closed: bool

    def for_batching(self) -> list[Asked]:
        """What each entry asks for; SteeringError if it also says which tokens are prompt."""


class Listener(Protocol):
    """Who has to be told when something else is asked for."""

    def announce(self) -> None:
        """Something else is; SteeringError if that cannot be, and everything is as it was then."""

    def clear(self) -> None:
        """Rather nothing than what is over."""

    def left(self, caller: Caller) -> None:
        """A caller has ended; SteeringError if something it asked for was not done."""


Caller = Requests | Generation

# All requests and generations that are open in this context, innermost last.
_here: ContextVar[tuple[Caller, ...]] = ContextVar("callers", default=())


class Callers:
    """The requests and the generations of one model that are open, in whatever thread."""

    def __init__(self, states: ModelState, blocks: OpenBlocks[Requests]) -> None:
        """``blocks``: which requests hold in a thread that did not open them."""
        self._blocks = blocks
        # What is open in any context, in order of entry; and what was open around it.
        self._open: dict[Caller, tuple[Caller, ...]] = {}
        self._listeners: list[Listener] = []
        # Its lock: what is asked for is read, and announced, by one thread at a time. Otherwise one
        # could announce what was asked for before another changed it.
        self._states = states

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` from now on when something else is asked for."""
        self._listeners.append(listener)

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that says what is asked for; everything as it was if that fails."""
        with self._states.lock:
            kept = getattr(owner, name)
            setattr(owner, name, value)
            try:
                self.announce()
            except BaseException as error:
                setattr(owner, name, kept)
                finish(error, self.announce)
                raise

    def announce(self) -> None:
        """Tell those who listen that something else is asked for."""
        with self._states.lock:
            for listener in self._listeners:
                listener.announce()

    def enter(self, entering: Caller) -> None:
        """Requests are open now, or a generation runs.

        SteeringError if one that is told cannot hold that; nothing changes then.
        """
        around = _here.get()
        if isinstance(entering, Generation):  # of the same caller, who generates in a thread
            around = (*self._blocks.inherited(), *around)
        with self._states.lock:
            self._open[entering] = around
            try:
                self.announce()
            except BaseException as error:
                finish(error, partial(self._forget, entering))
                raise
        _here.set((*_here.get(), entering))

    def leave(self, leaving: Caller, error: BaseException | None = None) -> None:
        """They are not any more, in whatever order they are left.

        What those who were told have to say is raised, behind ``error`` if that ended the block.
        """
        _here.set(tuple(each for each in _here.get() if each is not leaving))
        lefts = [partial(listener.left, leaving) for listener in self._listeners]
        finish(error, partial(self._forget, leaving), *lefts)

    def _forget(self, leaving: Caller) -> None:
        with self._states.lock:
            self._open.pop(leaving, None)
            for generation, around in self._generations():
                if leaving in around:
                    generation.outlived = True
            try:
                self.announce()
            except SteeringError:
                for listener in self._listeners:
                    listener.clear()
                raise

    def _entries(self) -> list[tuple[Caller, tuple[Caller, ...]]]:
        # The collector may end a forgotten block, and take it away, at any of these steps.
        return [(each, self._open.get(each, ())) for each in list(self._open)]

    def _generations(self) -> list[tuple[Generation, tuple[Caller, ...]]]:
        return [entry for entry in self._entries() if isinstance(entry[0], Generation)]

    def one(self, of_set: BatchPlan | None) -> tuple[BatchPlan | None, Generation | None]:
        """(What the one caller asks for, where no requests are open ``of_set``; what it generates).

        SteeringError if there are several.
        """
        with self._states.lock:
            generations = [each for each, _ in self._generations()]
            asking = [each for each in list(self._open) if not isinstance(each, Generation)]
            plan = asking[-1].plan if asking else of_set
            if asking or plan is not None:
                entries = self._entries()
                for (outer, _), (_, around) in pairwise(entries):
                    if outer not in around:
                        raise _several_callers()
            return plan, generations[-1] if generations else None

    def check_alone(self) -> None:
        """SteeringError if something is open that is not of this context."""
        with self._states.lock:
            if set(self._open) - {*self._blocks.inherited(), *_here.get()}:
                raise _several_callers()


def _several_callers() -> SteeringError:
    return SteeringError(
        "a compiled or captured model has one caller at a time, but another thread or task has"
        " requests open or generates: run one after the other, or give each a patched copy"
    )
