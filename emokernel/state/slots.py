"""Slots by what they hold: everybody who asks for the same mix shares one slot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from emokernel.errors import NoFreeSlotError
from emokernel.state.mix import Mix


class SlotAllocator:
    """Which slots are free. ``take`` gives all it was asked for, or none and an error."""

    def __init__(self, slots: Sequence[int]) -> None:
        self._free = list(reversed(slots))
        self._total = len(slots)
        self._lock = threading.Lock()

    def take(self, count: int) -> list[int]:
        """``count`` free slots; NoFreeSlotError if there are fewer."""
        with self._lock:
            if count > len(self._free):
                raise NoFreeSlotError(
                    f"no more slots: {count} different mixes asked for, {len(self._free)} of"
                    f" {self._total} slots free; patch with a larger slots="
                )
            return [self._free.pop() for _ in range(count)]

    def give_back(self, slots: Sequence[int]) -> None:
        """Make ``slots`` free again."""
        with self._lock:
            self._free.extend(reversed(slots))


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
        self._free = SlotAllocator(slots)
        self._write, self._retire = write, retire
        self._slots: dict[Mix, int] = {}
        self._holders: dict[Mix, int] = {}
        self._lock = threading.Lock()
        # What was released and is still to be counted: the collector may end a forgotten block in
        # the very thread that holds the lock.
        self._due: deque[tuple[Mix, ...]] = deque()

    def hold(self, mixes: Iterable[Mix]) -> dict[Mix, int]:
        """The slots of ``mixes``, each held once more until it is released.

        NoFreeSlotError if there are not enough slots; none is held then.
        """
        wanted = list(dict.fromkeys(mixes))
        try:
            return self._held(wanted)
        finally:
            self._settle()

    def _held(self, wanted: list[Mix]) -> dict[Mix, int]:
        with self._lock:
            self._count_due()
            new = [mix for mix in wanted if mix not in self._slots]
            taken = dict(zip(new, self._free.take(len(new)), strict=True))
            try:
                for mix, slot in taken.items():
                    self._write(slot, mix)
            except BaseException:
                self._free.give_back(list(taken.values()))
                raise
            self._slots |= taken
            for mix in wanted:
                self._holders[mix] = self._holders.get(mix, 0) + 1
            return {mix: self._slots[mix] for mix in wanted}

    def release(self, mixes: Iterable[Mix]) -> None:
        """Give back what one `hold` of the same mixes took; nothing points to it any more."""
        self._due.append(tuple(dict.fromkeys(mixes)))
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
                    self._free.give_back([self._slots.pop(mix)])

    @property
    def held(self) -> int:
        """How many slots are in use."""
        return len(self._slots)
