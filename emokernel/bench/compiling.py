"""Steps that run without Python: what torch.compile misses, and calls captured in a CUDA graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from emokernel.bench.harness import uncollected
from emokernel.errors import EmokernelError

# Calls before a capture: they load and compile what may not be loaded during one.
WARM_UP = 3
NO_GPU = "no GPU"
# What the error of a step has in it, and what is told instead.
_MISSING = {
    NO_GPU: NO_GPU,
    "No working C++ compiler": "there is no C++ compiler: install g++ or clang, or name one in CXX",
    "Cannot find a working triton": "there is no Triton for this GPU: pip install"
    " 'emokernel[triton]'",
}


def check_backend(name: str) -> None:
    """EmokernelError if torch.compile knows no backend ``name``."""
    known = torch.compiler.list_backends(exclude_tags=())
    if name not in known:
        raise EmokernelError(
            f"torch.compile has no backend {name!r}: choose one of {', '.join(known)}"
        )


def obstacle(error: BaseException) -> str | None:
    """What a step misses on this machine, and what to do; None for any other error."""
    text = str(error)
    return next((reason for sign, reason in _MISSING.items() if sign in text), None)


class CapturedCalls:
    """``calls``, one after the other, as a CUDA graph; ``result`` is what the last one returns.

    Whatever a call raises, or capturing it, comes through. The last ``keep`` results stay alive
    while they are recorded, so that calls which allocate theirs do not all write the same memory.
    """

    def __init__(
        self, calls: Sequence[Callable[[], object]], stream: torch.cuda.Stream, keep: int = 1
    ) -> None:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for number in range(WARM_UP):
                calls[number % len(calls)]()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        results: deque = deque(maxlen=keep)
        # A collection could free another graph in the middle of this capture. torch.cuda.graph
        # would also empty the allocator's cache, each time.
        with torch.cuda.stream(stream), uncollected():
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                for call in calls:
                    results.append(call())
            except BaseException:
                with suppress(Exception):  # it repeats that the capture failed
                    self._graph.capture_end()
                raise
            self._graph.capture_end()
        self.result = results[-1]

    def run(self) -> None:
        """Replay them."""
        self._graph.replay()
