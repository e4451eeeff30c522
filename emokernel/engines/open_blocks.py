"""The open `requests` blocks of a model, and which of them holds in a thread.

A block holds in the context that opened it (a context variable) and in copies of that. A thread
that was started with an empty context belongs to the blocks within which it was started. Python
does not say when that was, so each block remembers the threads that were there before it, and when
it is closed those that were started within it are remembered.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeVar
from weakref import WeakSet

from emokernel.errors import SteeringError

if TYPE_CHECKING:
    from threading import _RLock as RLock

_CHOOSE = (
    "open `with steering.requests([...])` in the thread (or task) itself, or requests([None]) for"
    " nothing"
)


class Block(Protocol):
    """Requests that were opened, and perhaps closed since."""

    closed: bool


Kind = TypeVar("Kind", bound=Block)

# Set where contexts begin, so that copies have it: what runs in a copy that was handed to a thread
# of a pool (`asyncio.to_thread`, anyio) has what that context has, whenever the thread was started.
_handed: ContextVar[bool] = ContextVar("handed", default=False)
_handed.set(True)

# (whose, the block) of all that were opened in this context, innermost last.
_here: ContextVar[tuple[tuple[OpenBlocks, Block], ...]] = ContextVar("requests", default=())


class OpenBlocks(Generic[Kind]):
    """The blocks of one model that are open, in whatever thread.

    A thread that Python has not started is there from when Python first sees it.
    """

    def __init__(self, lock: RLock) -> None:
        # Reentrant: the collector may end a forgotten block while this is held.
        self._lock = lock
        # Each with the threads that were there before it. Replaced, never changed.
        self._open: tuple[tuple[Kind, WeakSet[threading.Thread]], ...] = ()
        # Threads that were started within a block that is closed; None: no block was closed so.
        self._outlived: WeakSet[threading.Thread] | None = None
        self._warned = False

    def enter(self, block: Kind) -> None:
        """``block`` holds in this context, until `leave`."""
        entry = block, WeakSet(threading.enumerate())
        with self._lock:
            self._replace(lambda blocks: (*blocks, entry))
        _here.set((*_here.get(), (self, block)))

    def leave(self, block: Kind) -> None:
        """``block`` holds nowhere any more."""
        _here.set(tuple(each for each in _here.get() if each[1] is not block))
        with self._lock:
            before = next(before for each, before in self._open if each is block)
            within = [thread for thread in threading.enumerate() if thread not in before]
            if within and self._outlived is None:
                self._outlived = WeakSet()
            for thread in within:
                self._outlived.add(thread)
            self._replace(lambda blocks: tuple(each for each in blocks if each[0] is not block))

    def _replace(self, change: Callable[[tuple], tuple]) -> None:
        while True:
            seen = self._open
            changed = change(seen)
            if self._open is seen:  # else the collector has ended a block meanwhile
                self._open = changed
                return

    def current(self) -> Kind | None:
        """The block that holds here, None if none does.

        SteeringError for one that is closed, and in a thread that was started within several.
        """
        for whose, block in reversed(_here.get()):
            if whose is self:
                if block.closed:
                    raise SteeringError(
                        "this runs in a copy of the context of a requests block that has been"
                        f" closed: {_CHOOSE}"
                    )
                return block
        if _handed.get():
            return None
        within = self._of_thread()  # asked in any case, so that Python knows the thread
        if within is not None and not self._warned:
            self._warn()
        return within

    def inherited(self) -> tuple[Kind, ...]:
        """The block within which this thread was started, if there is one and it is open."""
        try:
            within = None if _handed.get() else self._of_thread()
        except SteeringError:
            return ()
        return () if within is None else (within,)

    def _of_thread(self) -> Kind | None:
        """The block within which this thread was started, whatever its context has."""
        thread = threading.current_thread()
        # In this order: `leave` notes a thread before it takes away the block.
        within = [block for block, before in self._open if thread not in before]
        if self._outlived is not None and thread in self._outlived:
            raise SteeringError(
                "this thread was started within a requests block that has been closed, and has"
                f" none of its own: {_CHOOSE}"
            )
        if len(within) > 1:
            _refuse_several(len(within))
        return within[0] if within else None

    def _warn(self) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(
                f"the thread {threading.current_thread().name!r} was started within a requests"
                " block and has none of its own, so that block steers it. To choose otherwise,"
                f" {_CHOOSE}. This is told once.",
                stacklevel=2,
            )


def _refuse_several(count: int) -> NoReturn:
    raise SteeringError(
        f"this thread was started while {count} requests blocks were open, and has none of its own,"
        f" so that it is not clear which should steer it: {_CHOOSE}"
    )
