"""What the kernels read: the basis of a model, the slots of its requests, the slot of each row.

All of it lives at fixed addresses on one device; a model spread over several devices has one
`DeviceState` for each. None of it is a module buffer, since ``model.to(bf16)`` would cast those.
Nothing here knows an emotion's name, a patched decoder or who runs it: an engine that writes the
slots of its rows itself needs this package and `emokernel.ops` alone.
"""

from emokernel.state.device import DeviceState, ModelState
from emokernel.state.mix import UNTOUCHED, Asked, Kinds, Mix
from emokernel.state.slots import MixSlots

__all__ = ["UNTOUCHED", "Asked", "DeviceState", "Kinds", "Mix", "MixSlots", "ModelState"]
