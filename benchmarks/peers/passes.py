"""When tokens come: what a driver answers, and the clock of an engine that takes no streamer."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch import nn


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile, and none due at its begin."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def timed(head: nn.Module) -> Iterator[list[float]]:
    """The start, and then when each forward pass has come through ``head``."""
    times: list[float] = []
    clock = head.register_forward_hook(lambda *_: times.append(time.perf_counter()))
    try:
        with uncollected():
            times.append(time.perf_counter())
            yield times
    finally:
        clock.remove()


def told(times: list[float], new_tokens: int) -> dict[str, Any]:
    """What `Driver.decode` answers: of ``times``, the start and one for each token."""
    first, *steps = (b - a for a, b in pairwise(times))
    if len(steps) != new_tokens - 1:
        raise RuntimeError(f"{1 + len(steps)} tokens were made, {new_tokens} asked for")
    return {"first": first, "steps": steps}
