"""Slots by how recently they were asked for: an engine that gives none back has nothing to leak."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from emokernel.errors import NoFreeSlotError


class RecentSlots:
    """The slot of each mix of the latest steps; a new mix takes the one not asked for longest.

    For engines whose steps run one behind the other: no step may read a slot that a later one took.
    """

    def __init__(self, slots: int) -> None:
        # Least recently asked for first; a slot that holds nothing yet goes by its number.
        self._slots: dict[bytes | int, int] = {slot: slot for slot in range(slots)}

    def place(self, wanted: Collection[bytes]) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """(The slot of each mix of a step, those that have to be written), by `Mix.head`.

        ``wanted`` names each once. NoFreeSlotError for more than slots; nothing changes then.
        """
        slots = self._slots
        if len(wanted) > len(slots):
            raise NoFreeSlotError(f"{len(wanted)} mixes in one step, but {len(slots)} slots")
        placed = {head: slots.pop(head) for head in wanted if head in slots}
        new = [head for head in wanted if head not in placed] if placed else wanted
        oldest = list(islice(slots, len(new)))
        # In their order: many at once are a run, which is written much faster.
        written = dict(zip(new, sorted(map(slots.pop, oldest)), strict=True))
        placed = {**placed, **written} if placed else written
        slots |= placed
        return placed, written
