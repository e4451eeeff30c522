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
        self.state, self._forced, self._block = state, forced, block
        self.backend: Backend = select(state.device, forced)
        # The name of the parameter that is followed, in parts, and the module that has it.
        self._name = [""]
        self._home: nn.Module = block
        first = self._weight()
        self._dtype = state.dtype if first is None else first.dtype

    def _weight(self) -> Tensor | None:
        """The parameter, looked up anew, since tools replace modules."""
        for place, module in self._block.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.is_floating_point():
                    self._home, self._name = module, [*filter(None, place.split(".")), name]
                    return parameter
        return None

    def follow(self) -> None:
        """Move the state if the model has moved; SteeringError for a dtype without kernels."""
        home: nn.Module | None = self._block
        *parts, name = self._name
        for part in parts:
            home = None if home is None else home._modules.get(part)
        parameter = None if home is None else home._parameters.get(name)
        if (
            home is self._home
            and parameter is not None
            and parameter.dtype is self._dtype
            and parameter.device == self.state.device
        ):
            return
        before, parameter = self._home, self._weight()
        if parameter is None:
            return
        device = device_of(self._home, parameter)
        if device.type == "meta":
            device = self.state.device
        if self._home is not before:  # a tool's module, in a dtype of its own: that is no cast
            self._dtype = parameter.dtype
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
