"""The state of a model that may be spread over several devices."""

from __future__ import annotations

import threading

from emokernel.errors import SteeringError
from emokernel.state.device import DeviceState
from emokernel.state.mix import Mix


class ModelState:
    """The state of a model on each of its devices; none before and after it is patched.

    ``lock`` is the one lock of all that is asked of the model, and of what its forwards read.
    """

    def __init__(self) -> None:
        self.devices: list[DeviceState] = []
        self.lock = threading.RLock()

    def write(self, slot: int, mix: Mix) -> None:
        """`DeviceState.write` on every device; SteeringError if there is none."""
        if not self.devices:
            raise SteeringError("the model is not patched: call emokernel.patch")
        for state in self.devices:
            state.write(slot, mix)

    def retire(self, slot: int) -> None:
        """`DeviceState.retire` on every device."""
        for state in self.devices:
            state.retire(slot)
