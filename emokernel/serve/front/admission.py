"""Places for what generates: so many rows at a time, and a queue in which the first is first."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from emokernel.serve.front.errors import BodyError, BusyError, DrainingError

# Of so many of the last requests it is remembered how long they took.
_REMEMBERED = 64
_FIRST_GUESS_S, _LONGEST_WAIT_S = 1.0, 120


class _Waiting(NamedTuple):
    rows: int
    admitted: asyncio.Future[None]


class Admission:
    """``running`` places and a queue of ``waiting`` requests; for one event loop.

    The queue is strict: a request for many places is not overtaken by those for few, nor does it
    keep more waiting than those that came after it.
    """

    def __init__(
        self, running: int, waiting: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places, self._longest, self._clock = running, waiting, clock
        self._taken = 0
        self._queue: deque[_Waiting] = deque()
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def places(self) -> int:
        """How many rows may generate at a time."""
        return self._places

    @property
    def running(self) -> int:
        """The places that are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """The requests in the queue."""
        return len(self._queue)

    @property
    def draining(self) -> bool:
        """Whether nothing is admitted any more."""
        return self._draining

    @asynccontextmanager
    async def place(self, rows: int = 1) -> AsyncIterator[None]:
        """Within the block, ``rows`` places are taken; before it, wait for them.

        BusyError if too many wait already, DrainingError once `begin_draining` was called, also for
        those who wait then, BodyError for more places than there are.
        """
        await self._take(rows)
        begun = self._clock()
        try:
            yield
        finally:
            self._took.append(self._clock() - begun)
            self._give_back(rows)

    def begin_draining(self) -> None:
        """Admit nobody any more, and send those away who wait; what runs goes on."""
        self._draining = True
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.admitted.done():
                waiting.admitted.set_exception(self._ends())

    async def drained(self, within_s: float) -> bool:
        """Wait until no place is taken; False if some still are after that time."""
        try:
            await asyncio.wait_for(self._idle.wait(), within_s)
        except TimeoutError:
            return False
        return True

    def retry_after(self) -> int:
        """In how many seconds it is worth asking again, as the last requests took; at least 1."""
        typical = sum(self._took) / len(self._took) if self._took else _FIRST_GUESS_S
        ahead = self._taken + sum(waiting.rows for waiting in self._queue)
        seconds = math.ceil(typical * ahead / self._places)
        return min(max(seconds, 1), _LONGEST_WAIT_S)

    async def _take(self, rows: int) -> None:
        if not 1 <= rows <= self._places:
            raise BodyError(f"it needs {rows} places, {self._places} at most: ask for fewer rows")
        if self._draining:
            raise self._ends()
        if not self._queue and self._taken + rows <= self._places:
            self._count(rows)
            return
        if len(self._queue) >= self._longest:
            seconds = self.retry_after()
            raise BusyError(
                f"{self._longest} requests wait already: ask again in {seconds} s", seconds
            )
        waiting = _Waiting(rows, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._admit()
            elif not waiting.admitted.cancelled() and waiting.admitted.exception() is None:
                self._give_back(rows)  # admitted, and cancelled before it could know
            raise

    def _count(self, rows: int) -> None:
        self._taken += rows
        if self._taken:
            self._idle.clear()
        else:
            self._idle.set()

    def _give_back(self, rows: int) -> None:
        self._count(-rows)
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._taken + self._queue[0].rows <= self._places:
            waiting = self._queue.popleft()
            if waiting.admitted.done():  # cancelled; it is about to leave
                continue
            self._count(waiting.rows)
            waiting.admitted.set_result(None)

    def _ends(self) -> DrainingError:
        return DrainingError("the server is about to end: ask another, or this one later", 5)
