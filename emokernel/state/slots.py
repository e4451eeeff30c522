"""Slots by what they hold: everybody who asks for the same mix shares one slot."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from emokernel.errors import NoFreeSlotError
from emokernel.state.mix import UNTOUCHED, Mix


class MixSlots:
    """The slot of each mix that somebody holds, and how many hold it; for any thread."""

    def __init__(
        self,
        slots: Sequence[int],
        write: Callable[[int, Mix], None],
        retire: Callable[[int], None] = lambda slot: None,
    ) -> None:
        """``write(slot, mix)`` puts a mix into a slot of every device.

        ``retire(slot)``: nothing points to the slot any more; forwards that have begun may read it.
        """
        self._free, self._total = list(reversed(slots)), len(slots)
        self._write, self._retire = write, retire
        self._slots: dict[Mix, int] = {}
        self._holders: Counter[Mix] = Counter()
        self._lock = threading.Lock()
        # What was released and is still to be counted: the collector may end a forgotten block in
        # the very thread that holds the lock.
        self._due: deque[list[Mix]] = deque()

    def hold(self, mixes: Iterable[Mix | None]) -> list[int]:
        """The slot of each of ``mixes``, held once more for each; UNTOUCHED where there is none.

        NoFreeSlotError if there are not enough slots; none is held then.
        """
        wanted = list(mixes)
        try:
            with self._lock:
                self._count_due()
                new = [mix for mix in dict.fromkeys(wanted) if mix and mix not in self._slots]
                if len(new) > len(self._free):
                    raise NoFreeSlotError(
                        f"no more slots: {len(new)} different mixes asked for, {len(self._free)} of"
                        f" {self._total} slots free; patch with a larger slots="
                    )
                taken = dict(zip(new, reversed(self._free), strict=False))
                for mix, slot in taken.items():
                    self._write(slot, mix)
                del self._free[len(self._free) - len(taken) :]
                self._slots |= taken
                self._holders.update(mix for mix in wanted if mix)
                return [UNTOUCHED if mix is None else self._slots[mix] for mix in wanted]
        finally:
            self._settle()

    def release(self, mixes: Iterable[Mix | None]) -> None:
        """Give back what one `hold` of the same mixes took; nothing points to it any more."""
        self._due.append([mix for mix in mixes if mix])
        self._settle()

    def _settle(self) -> None:
        while self._due and self._lock.acquire(blocking=False):  # else who holds it does it
            try:
                self._count_due()
            finally:
                self._lock.release()

    def _count_due(self) -> None:
        while self._due:
            for mix in self._due.popleft():
                self._holders[mix] -= 1
                if not self._holders[mix]:
                    self._retire(self._slots[mix])
                    del self._holders[mix]
                    self._free.append(self._slots.pop(mix))

    @property
    def held(self) -> int:
        """How many slots are in use."""
        return len(self._slots)
