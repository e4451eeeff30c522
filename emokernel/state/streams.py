"""The streams of a GPU that run forwards: what those read is not rewritten while they may read it.

A forward is queued on the stream of its thread and reads its slots later, when Python has gone on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

Stream = torch.cuda.Stream
# (a stream, an event on it)
Mark = tuple[Stream, torch.cuda.Event | torch.Event]


class Readers:
    """The streams on which forwards of one device were queued by Python.

    A CUDA graph that is replayed runs no Python: its stream is known if the model ran on it before
    without a graph (to warm up, or for the prompt), or if it is the current one where slots are
    released. Whoever replays on yet another stream has that wait for it.
    """

    def __init__(
        self,
        current: Callable[[], Stream | None] = lambda: None,
        capturing: Callable[[], bool] = lambda: False,
    ) -> None:
        """``current()``: the stream of this thread; None on a device without streams, the CPU.

        ``capturing()``: whether that is being recorded into a CUDA graph.
        """
        self.current, self.capturing = current, capturing
        self._seen: frozenset[Stream] = frozenset()
        self._lock = threading.Lock()

    def read(self) -> None:
        """A forward is about to be queued here: to be called for each, it costs no event."""
        stream = self.current()
        if stream is not None and stream not in self._seen:
            with self._lock:
                self._seen |= {stream}

    def mark(self) -> list[Mark]:
        """Where the forwards that are queued now have run: on all streams, the current included."""
        current = self.current()
        streams = self._seen if current is None else self._seen | {current}
        return [(each, each.record_event()) for each in streams]

    def wait(self, marks: Iterable[Mark]) -> None:
        """Queue what follows on the current stream behind ``marks``."""
        current = self.current()
        for stream, event in marks:
            if current is not None and stream != current:
                current.wait_event(event)

    def wait_for_all(self) -> None:
        """Queue what follows on the current stream behind all forwards that are queued now."""
        self.wait((each, each.record_event()) for each in self._seen - {self.current()})

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """The memory of tensors that are dropped now stays until those forwards have run."""
        seen = self._seen
        for tensor in tensors if seen else ():
            for stream in seen:
                tensor.record_stream(stream)


def readers_of(device: torch.device) -> Readers:
    """For ``device``. On a CPU there is nothing to wait for: a forward that has ended has read."""
    if device.type != "cuda":
        return Readers()
    return Readers(
        partial(torch.cuda.current_stream, device), torch.cuda.is_current_stream_capturing
    )
