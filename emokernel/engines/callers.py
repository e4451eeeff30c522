"""Who asks something of a model, in any context, and who is told when that changes.

A *caller* is an open `requests` block, or a `generate` that runs. A block holds in the context that
opened it (a context variable) and in copies of that. A thread that was started with an empty
context belongs to the blocks within which it was started. Python does not say when that was, so
each block remembers the threads that were there before it, and when it is closed those that were
started within it are remembered. What runs without Python has one caller at a time, whose wishes
are announced to it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol
from weakref import WeakSet

from emokernel.engines.plan import BatchPlan
from emokernel.engines.texts import Generation
from emokernel.errors import SteeringError
from emokernel.state import Asked

_CHOOSE = (
    "open `with steering.requests([...])` in the thread (or task) itself, or requests([None]) for"
    " nothing"
)


class Requests(Protocol):
    """The requests of a block that was opened, and perhaps closed since."""

    plan: BatchPlan | None
    closed: bool

    def for_batching(self) -> list[Asked]:
        """What each entry asks for; SteeringError if it also says which tokens are prompt."""
        ...


Caller = Requests | Generation


class Listener(Protocol):
    """Who has to be told when something else is asked for."""

    def announce(self) -> None:
        """Something else is; SteeringError if that cannot be, and everything is as it was then."""

    def clear(self) -> None:
        """Rather nothing than what is over."""

    def left(self, caller: Caller) -> None:
        """A caller has ended; SteeringError if something it asked for was not done."""


class _Around(NamedTuple):
    """What was there when a caller entered."""

    callers: tuple[Caller, ...]
    threads: WeakSet[threading.Thread]


# Set where contexts begin, so that copies have it: what runs in a copy that was handed to a thread
# of a pool (`asyncio.to_thread`, anyio) has what that context has, whenever the thread was started.
_handed: ContextVar[bool] = ContextVar("handed", default=False)
_handed.set(True)

# (whose, who) of all callers that were entered in this context, innermost last.
_here: ContextVar[tuple[tuple[Callers, Caller], ...]] = ContextVar("callers", default=())


class Callers:
    """The open blocks and running generations of one model, in whatever thread.

    A thread that Python has not started is there from when Python first sees it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        # What is asked for is read, and announced, by one thread at a time. Otherwise one could
        # announce what was asked for before another changed it. Reentrant: the collector may end a
        # forgotten block while this is held, or at any step that reads what is open.
        self._lock = lock
        self._open: dict[Caller, _Around] = {}  # in order of entry
        # Threads that were started within a block that is closed.
        self._outlived: WeakSet[threading.Thread] = WeakSet()
        self._warned = False
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` from now on when something else is asked for."""
        self._listeners.append(listener)

    def put(self, owner: object, name: str, value: object) -> None:
        """Set an attribute that says what is asked for; everything as it was if that fails."""
        with self._lock:
            kept = getattr(owner, name)
            setattr(owner, name, value)
            try:
                self.announce()
            except BaseException as error:
                setattr(owner, name, kept)
                _finish(error, self.announce)
                raise

    def announce(self) -> None:
        """Tell those who listen that something else is asked for."""
        with self._lock:
            for listener in self._listeners:
                listener.announce()

    def enter(self, entering: Caller) -> None:
        """A block holds in this context, or a generation runs in it, until `leave`.

        SteeringError if one that is told cannot hold that; nothing changes then.
        """
        callers = tuple(each for _, each in _here.get())
        if isinstance(entering, Generation):  # of the same caller, who generates in a thread
            callers = (*self._inherited(), *callers)
        around = _Around(callers, WeakSet(threading.enumerate()))
        with self._lock:
            self._open[entering] = around
            try:
                self.announce()
            except BaseException as error:
                _finish(error, partial(self._forget, entering))
                raise
        _here.set((*_here.get(), (self, entering)))

    def leave(
        self,
        leaving: Caller,
        error: BaseException | None = None,
        *further: Callable[[], object],
    ) -> None:
        """It holds nowhere any more, in whatever order; then the ``further`` steps are taken.

        What goes wrong, and what those who were told have to say, is raised, behind ``error`` if
        that ended the block.
        """
        _here.set(tuple(each for each in _here.get() if each[1] is not leaving))
        if not isinstance(leaving, Generation):
            before = self._open[leaving].threads
            with self._lock:
                self._outlived.update(t for t in threading.enumerate() if t not in before)
        lefts = [partial(listener.left, leaving) for listener in self._listeners]
        _finish(error, partial(self._forget, leaving), *lefts, *further)

    def _forget(self, leaving: Caller) -> None:
        with self._lock:
            self._open.pop(leaving, None)
            for caller, around in self._entries():
                if isinstance(caller, Generation) and leaving in around.callers:
                    caller.outlived = True
            try:
                self.announce()
            except SteeringError:
                for listener in self._listeners:
                    listener.clear()
                raise

    def _entries(self) -> list[tuple[Caller, _Around]]:
        return list(self._open.copy().items())

    def current(self) -> Requests | None:
        """The block that holds here, None if none does.

        SteeringError for one that is closed, and in a thread that was started within several.
        """
        for whose, caller in reversed(_here.get()):
            if whose is self and not isinstance(caller, Generation):
                if caller.closed:
                    raise SteeringError(
                        "this runs in a copy of the context of a requests block that has been"
                        f" closed: {_CHOOSE}"
                    )
                return caller
        if _handed.get():
            return None
        within = self._of_thread()  # asked in any case, so that Python knows the thread
        if within is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"the thread {threading.current_thread().name!r} was started within a requests"
                " block and has none of its own, so that block steers it. To choose otherwise,"
                f" {_CHOOSE}. This is told once.",
                stacklevel=2,
            )
        return within

    def generation(self) -> Generation | None:
        """The `generate` of the model that runs in this context.

        One that has ended may be left in a copy of its context.
        """
        for whose, caller in reversed(_here.get()):
            if whose is self and isinstance(caller, Generation) and not caller.ended:
                return caller
        return None

    def one(self, of_set: BatchPlan | None) -> tuple[BatchPlan | None, Generation | None]:
        """(What the one caller asks for, where no requests are open ``of_set``; what it generates).

        SteeringError if there are several.
        """
        with self._lock:
            entries = self._entries()
            generations = [each for each, _ in entries if isinstance(each, Generation)]
            asking = [each for each, _ in entries if not isinstance(each, Generation)]
            plan = asking[-1].plan if asking else of_set
            if asking or plan is not None:
                for (outer, _), (_, around) in pairwise(entries):
                    if outer not in around.callers:
                        raise _several_callers()
            return plan, generations[-1] if generations else None

    def check_alone(self) -> None:
        """SteeringError if something is open that is not of this context."""
        with self._lock:
            if set(self._open) - {*self._inherited(), *(each for _, each in _here.get())}:
                raise _several_callers()

    def _inherited(self) -> tuple[Requests, ...]:
        """The block within which this thread was started, if there is one and it is open."""
        try:
            within = None if _handed.get() else self._of_thread()
        except SteeringError:
            return ()
        return () if within is None else (within,)

    def _of_thread(self) -> Requests | None:
        """The block within which this thread was started, whatever its context has."""
        thread = threading.current_thread()
        # In this order: `leave` notes a thread before it takes away the block.
        within = [each for each, around in self._entries() if thread not in around.threads]
        within = [each for each in within if not isinstance(each, Generation)]
        if thread in self._outlived:
            raise SteeringError(
                "this thread was started within a requests block that has been closed, and has"
                f" none of its own: {_CHOOSE}"
            )
        if len(within) > 1:
            raise SteeringError(
                f"this thread was started while {len(within)} requests blocks were open, and has"
                f" none of its own, so that it is not clear which should steer it: {_CHOOSE}"
            )
        return within[0] if within else None


def _several_callers() -> SteeringError:
    return SteeringError(
        "a compiled or captured model has one caller at a time, but another thread or task has"
        " requests open or generates: run one after the other, or give each a patched copy"
    )


def _finish(error: BaseException | None, *steps: Callable[[], object]) -> None:
    """Take all ``steps``, whatever goes wrong in one of them.

    ``error``: what has ended the block, if anything has. Only if nothing has is the first problem
    of the steps raised; the others stand in the chain of contexts behind it, or behind ``error``.
    """
    first = error
    for step in steps:
        try:
            step()
        except BaseException as problem:
            if first is None:
                first = problem
            else:
                _add_context(first, problem)
    if first is not None and first is not error:
        raise first


def _add_context(error: BaseException, later: BaseException) -> None:
    """Put ``later`` at the end of what a traceback of ``error`` tells first."""
    chain = [error]
    while (further := chain[-1].__cause__ or chain[-1].__context__) is not None:
        if further in chain or further is later:
            return
        chain.append(further)
    # It was raised while the error was on its way: that is not told twice.
    link: BaseException | None = later
    while link is not None:
        if link.__context__ in chain:
            link.__context__ = None
        link = link.__context__
    chain[-1].__context__ = later
