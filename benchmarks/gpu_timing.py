"""Timing on a GPU: replays of captured graphs, the host's side of a call, and a time budget.

Everything but `GraphTimer` also runs on the CPU, so that a benchmark can be tried without a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from emokernel.bench.compiling import WARM_UP, CapturedCalls

Call = Callable[[], object]
# Launches that may wait in a stream's queue before the host is held up; about 1024 on NVIDIA's.
QUEUE = 512


class Prepared(Protocol):
    """Calls that are ready to be timed together.

    ``result`` is what the last of them returned; ``seconds`` runs all of them once and gives the
    time of one, in seconds.
    """

    result: object

    def seconds(self) -> float: ...

    def run(self) -> None: ...


class Timer(Protocol):
    """How calls are timed on a device."""

    def prepare(self, calls: Sequence[Call], keep: int = 1) -> Prepared:
        """``calls``, to be run one after the other; ``keep``: see `CapturedCalls`."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has done all it was given."""
        ...


class GraphTimer:
    """Captures the calls into one CUDA graph and times its replay between two events.

    Every timed replay stands in the queue behind an untimed one. So the device never waits for the
    host between the events, and what is measured is the device's time alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def prepare(self, calls: Sequence[Call], keep: int = 1) -> Prepared:
        return _TimedGraph(calls, self._stream, keep)

    def synchronize(self) -> None:
        torch.cuda.synchronize()


class _TimedGraph(CapturedCalls):
    def __init__(self, calls: Sequence[Call], stream: torch.cuda.Stream, keep: int) -> None:
        super().__init__(calls, stream, keep)
        self._calls = len(calls)
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def seconds(self) -> float:
        self.run()
        self._start.record()
        self.run()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) / 1e3 / self._calls


class HostTimer:
    """Runs the calls and reads the clock: the stand-in for `GraphTimer` on the CPU."""

    def prepare(self, calls: Sequence[Call], keep: int = 1) -> Prepared:
        for number in range(WARM_UP):
            calls[number % len(calls)]()
        return _Calls(calls)

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _Calls:
    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self.run()

    def run(self) -> None:
        for call in self._calls:
            self.result = call()

    def seconds(self) -> float:
        start = time.perf_counter()
        self.run()
        return (time.perf_counter() - start) / len(self._calls)


def timer_for(device: torch.device) -> Timer:
    """The timer of a device: graph replays on a GPU, the clock elsewhere."""
    return GraphTimer(device) if device.type == "cuda" else HostTimer()


def enqueue_seconds(call: Call, timer: Timer, launches: int = 1, calls: int = 2000) -> float:
    """Seconds of the host per call: how long it takes to hand the device its work.

    ``launches``: kernels per call. The device gets to empty its queue, untimed, before that fills
    up and holds the host. Means something only where the kernels are no longer than the launches.
    """
    chunk = max(1, min(calls, QUEUE // launches))
    total, chunks = 0.0, max(1, calls // chunk)
    for _ in range(chunks):
        timer.synchronize()
        start = time.perf_counter()
        for _ in range(chunk):
            call()
        total += time.perf_counter() - start
    timer.synchronize()
    return total / (chunks * chunk)


def eager_seconds(call: Call, timer: Timer, calls: int = 50) -> float:
    """Seconds per call in eager mode, from an idle device to an idle device: host and kernels."""
    timer.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    timer.synchronize()
    return (time.perf_counter() - start) / calls


@dataclass
class Budget:
    """``seconds`` that may be spent; they begin with the object, or are charged piece by piece."""

    seconds: float
    running: bool = True
    _spent: float = 0.0
    _start: float = field(default_factory=lambda: time.monotonic())

    def left(self) -> float:
        """Seconds that remain; negative when overdrawn."""
        elapsed = time.monotonic() - self._start if self.running else 0.0
        return self.seconds - elapsed - self._spent

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Charges what runs inside, to a budget that is not ``running``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._spent += time.monotonic() - start

    def refusal(self) -> str | None:
        """Why nothing more may run, or None."""
        return None if self.left() > 0 else f"the budget of {self.seconds:g} s was spent"
