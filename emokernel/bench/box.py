"""The time box of a run: how much is left, what still fits in, and what ends it at last."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from emokernel.bench.harness import FEWEST_ROUNDS

# A generation of fewer tokens is little but its prompt.
LEAST_TOKENS = 4


class TimeIsUp(BaseException):
    """The box has ended in the middle of something; no error, as little as Ctrl-C is one."""


@dataclass
class Box:
    """A number of ``seconds`` that began at ``began`` on the ``clock``; without bounds by default.

    ``reserve``: seconds at its end in which nothing is measured, for what is drawn and written.
    """

    seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic
    began: float = field(default=math.nan)
    reserve: float = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.began):
            self.began = self.clock()

    @property
    def is_bounded(self) -> bool:
        """Whether there is an end at all."""
        return math.isfinite(self.seconds)

    @property
    def end(self) -> float:
        """When measuring has to end, on the clock."""
        return self.began + self.seconds - self.reserve

    def left(self) -> float:
        """Seconds in which something can still be measured, at least 0."""
        return max(0.0, self.end - self.clock())

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """TimeIsUp is raised in what still runs when nothing is left, as Ctrl-C would be.

        Plans keep a run within its box; this is for what nobody could foresee, such as how long
        something compiles. Only the main thread, on systems with alarms, can be stopped so.
        """
        can = hasattr(signal, "setitimer") and self.is_bounded
        if not can or threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_: int, __: FrameType | None) -> None:
            raise TimeIsUp

        before = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(self.left(), 1e-3))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Plan(NamedTuple):
    """So many rounds, each generation of so many tokens."""

    rounds: int
    tokens: int


@dataclass(frozen=True)
class Cost:
    """What a round of all variants takes, in seconds: ``first`` tokens, and each ``step`` after."""

    first: float
    step: float

    def round(self, tokens: int) -> float:
        """Seconds of a round of so many tokens."""
        return self.first + (tokens - 1) * self.step

    def plan(self, seconds: float, wanted: Plan) -> Plan | None:
        """What fits into ``seconds``: first fewer tokens than ``wanted``, then fewer rounds.

        None where the fewest rounds that show anything do not fit.
        """
        least = min(LEAST_TOKENS, wanted.tokens)
        fewest = min(FEWEST_ROUNDS, wanted.rounds)
        if wanted.rounds * self.round(wanted.tokens) <= seconds:
            return wanted
        if wanted.rounds * self.round(least) <= seconds:
            more = (seconds / wanted.rounds - self.round(least)) / self.step
            return Plan(wanted.rounds, min(wanted.tokens, least + int(more)))
        rounds = int(seconds / self.round(least))
        return Plan(rounds, least) if rounds >= fewest else None


def process_began() -> float:
    """When this process was started, on `time.monotonic`; now, where the system does not say."""
    now = time.monotonic()
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # since the machine was started
        return now - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    except (OSError, ValueError, IndexError, AttributeError):
        return now
