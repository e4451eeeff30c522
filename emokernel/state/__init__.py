"""What the kernels read: the basis of a model, the slots of its requests, the slot of each row.

All of it lives at fixed addresses on one device; a model spread over several devices has one
`DeviceState` for each. None of it is a module buffer, since ``model.to(bf16)`` would cast those.
Nothing here knows an emotion's name, a patched decoder or who runs it. An engine that writes the
slots of its rows itself needs this package and `emokernel.ops` alone: `Tickets` for what each of
its requests asked for, `rows_of` into a `RowBuffer` for a step, and `DeviceState.reading` around
that and the forward, so that no slot is given out again which it still reads.
"""

from emokernel.state.device import DeviceState
from emokernel.state.mix import UNTOUCHED, Asked, Kinds, Mix
from emokernel.state.model import ModelState
from emokernel.state.rows import RowBuffer, token_slot
from emokernel.state.slots import MixSlots
from emokernel.state.tickets import Ticket, Tickets, rows_of

__all__ = [
    "UNTOUCHED", "Asked", "DeviceState", "Kinds", "Mix", "MixSlots", "ModelState", "RowBuffer",
    "Ticket", "Tickets", "rows_of", "token_slot",
]  # fmt: skip
