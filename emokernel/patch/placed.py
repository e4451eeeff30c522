"""The state and the backend of each device of a patched model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.ops import Backend, select
from emokernel.patch.decoder import device_of
from emokernel.state import DeviceState

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Placed:
    """The state and the backend of one device, which follow the model when it is moved or cast.

    ``block`` is one that lives there; where its first parameter of floating type goes, they go.
    """

    def __init__(self, state: DeviceState, forced: str | None, block: nn.Module) -> None:
        self.state, self._forced = state, forced
        self.backend: Backend = select(state.device, forced)
        self._block, self._at = block, _first_weight(block)
        self._home, first = self._weight()
        self._dtype = state.dtype if first is None else first.dtype

    def _weight(self) -> tuple[nn.Module, Tensor | None]:
        """(Module, parameter), looked up by name, since tools replace modules."""
        for _ in range(2):
            holder: nn.Module | None = self._block
            *way, name = self._at.split(".")
            for part in way:
                holder = None if holder is None else holder._modules.get(part)
            if holder is not None and name in holder._parameters:
                parameter = holder._parameters[name]
                if parameter is None or parameter.is_floating_point():
                    return holder, parameter
            self._at = _first_weight(self._block)
        return self._block, None

    def follow(self) -> None:
        """Move the state if the model has moved; SteeringError for a dtype without kernels."""
        home, parameter = self._weight()
        if parameter is None:
            return
        device = device_of(home, parameter)
        if device.type == "meta":
            device = self.state.device
        if home is not self._home:  # a tool's module, in a dtype of its own: that is no cast
            self._home, self._dtype = home, parameter.dtype
        if parameter.dtype is self._dtype and device == self.state.device:
            return
        dtype = parameter.dtype if self.state.dtype is self._dtype else self.state.dtype
        if dtype not in STREAM_DTYPES:
            raise SteeringError(
                f"the model was cast to {dtype}; the kernels know fp32, bf16 and fp16: cast it to"
                " one of them, or unpatch()"
            )
        self.backend = select(device, self._forced)
        self.state.move(device, dtype)
        self._dtype = parameter.dtype


def _first_weight(block: nn.Module) -> str:
    """The name of its first parameter of floating type, "" if there is none."""
    parameters = block.named_parameters()
    return next((name for name, each in parameters if each.is_floating_point()), "")
