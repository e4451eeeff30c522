"""When the tokens of an engine come that takes no streamer: as the output head computes them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch import nn


@contextmanager
def timed(head: nn.Module) -> Iterator[list[float]]:
    """The start, and then when each forward pass has come through ``head``."""
    times: list[float] = []
    clock = head.register_forward_hook(lambda *_: times.append(time.perf_counter()))
    gc.collect()
    gc.disable()
    try:
        times.append(time.perf_counter())
        yield times
    finally:
        gc.enable()
        clock.remove()


def told(times: list[float], new_tokens: int) -> dict[str, Any]:
    """What `Driver.decode` answers."""
    first, *steps = (b - a for a, b in pairwise(times))
    if len(steps) != new_tokens - 1:
        raise RuntimeError(f"{1 + len(steps)} tokens were made, {new_tokens} asked for")
    return {"first": first, "steps": steps}
