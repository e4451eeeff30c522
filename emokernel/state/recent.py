"""Slots by how recently they were asked for: an engine that gives none back has nothing to leak."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from emokernel.errors import NoFreeSlotError


class RecentSlots:
    """The slot of each mix of the latest steps; a new mix takes the one not asked for longest.

    For engines whose steps run one behind the other: no step may read a slot that a later one took.
    """

    def __init__(self, slots: int) -> None:
        self._total = slots
        self._slots: dict[bytes, int] = {}  # least recently asked for first

    def place(self, heads: Iterable[bytes]) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """(The slot of each mix of a step, those that have to be written), by `Mix.head`.

        NoFreeSlotError for more mixes than slots; nothing changes then.
        """
        wanted = dict.fromkeys(heads)
        if len(wanted) > self._total:
            raise NoFreeSlotError(f"{len(wanted)} mixes in one step, but {self._total} slots")
        placed = {head: self._slots.pop(head) for head in wanted if head in self._slots}
        new = [head for head in wanted if head not in placed]
        unused = self._total - len(self._slots) - len(placed)
        oldest = list(islice(self._slots, max(0, len(new) - unused)))
        free = [self._slots.pop(head) for head in oldest]
        taken = len(self._slots) + len(placed) + len(oldest)
        written = dict(zip(new, (*free, *range(taken, self._total)), strict=False))
        placed |= written
        self._slots |= placed
        return placed, written
