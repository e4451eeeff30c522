"""Waiting for what comes of something, and not longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_PATIENCE_S = 10.0


def waited(told: Callable[[], Any], what: str, within: float = _PATIENCE_S) -> Any:
    """What ``told`` gives as soon as it is anything; AssertionError if it never is."""
    end = time.monotonic() + within
    while not (found := told()):
        assert time.monotonic() < end, f"{what}: not within {within:g} s"
        time.sleep(0.01)
    return found
