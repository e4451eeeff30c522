"""Which operations a patched model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emokernel import Steering
from emokernel.ops import Backend


@contextmanager
def counted(steering: Steering) -> Iterator[list[str]]:
    """The names of the operations of the backend, in the order in which they are called."""
    calls: list[str] = []
    placed = steering.placed[0]
    own = placed.backend

    def counting(name: str) -> Callable:
        return lambda *args: calls.append(name) or getattr(own, name)(*args)

    names = ("add_steer", "add_steer_rms_norm")
    placed.backend = Backend(**(vars(own) | {name: counting(name) for name in names}))
    try:
        yield calls
    finally:
        placed.backend = own
