"""A lock that shows that a second thread wants it: races without waiting for any time to pass."""

from __future__ import annotations

import threading
from typing import Any


class Noting:
    """In the place of ``lock``; sets ``wanted`` when a thread wants it that another one holds."""

    def __init__(self, lock: Any, wanted: threading.Event) -> None:
        self._lock, self._wanted = lock, wanted

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._wanted.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
