"""What the forward that runs in a thread keeps for its blocks."""

from __future__ import annotations

import itertools
import threading

from torch import Tensor

_serials = itertools.count()

# (basis, ids, weights, law) of a layer, as the operations take them.
Tables = tuple[Tensor, Tensor, Tensor, Tensor]


def next_serial() -> str:
    """A string, since torch.compile may make integers symbols."""
    return f"serial {next(_serials)}"


class Running(threading.local):
    """What the forward that runs in this thread keeps for its blocks; None outside of one.

    ``token_slot`` and ``untouched`` are int32, at least one entry per row: the slot of each row,
    and -1 throughout. ``handed`` is (rows, their normed form, the norm that it was made for, how
    many writes to the rows torch had counted then, None where it counts none).
    ``tables``: what the adds read in the place of the state's (`DeviceState.tables_of_call`).
    ``checkpointed``: whether the block that runs will run again, so that both have to be alike.
    ``steered``: the layers whose steered add has run.
    """

    def __init__(self) -> None:
        # Not in the class, where torch.compile (2.11) finds them before those of the thread.
        self.token_slot: Tensor | None = None
        self.untouched: Tensor | None = None
        self.handed: tuple[Tensor, Tensor, object, int | None] | None = None
        self.tables: list[Tables] | None = None
        self.checkpointed = False
        self.steered: set[int] = set()
