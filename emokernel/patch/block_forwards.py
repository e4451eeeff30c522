"""The forwards of a patched model's blocks and of their parts."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch
from torch import nn

from emokernel.compiling import constant_in_trace
from emokernel.patch.adds import refuse_alone, steered_rows
from emokernel.patch.checkpointing import checkpointed
from emokernel.patch.decoder import map_stream
from emokernel.patch.placed import Placed
from emokernel.replaced import ReplacedMethod, forward_name


class RewrittenForward(ReplacedMethod):
    """The forward of a module with some of its adds replaced."""

    def __init__(
        self, module: nn.Module, function: FunctionType, traced: FunctionType | None = None
    ) -> None:
        """``traced``: what torch.compile traces, where that is not ``function``."""
        super().__init__(module, forward_name(module))
        forward = type(module).forward
        self._function, self._in_training = function, checkpointed(function, forward)
        self._traced = function if traced is None else traced
        self._traced_in_training = checkpointed(self._traced, forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            function = self._traced_in_training if self.module.training else self._traced
        else:
            self.check_class()
            function = self._in_training if self.module.training else self._function
        return function(self.module, *args, **kwargs)


class SteeredOutput(ReplacedMethod):
    """The forward of a block whose last add cannot be seen: what it returns is steered."""

    def __init__(self, block: nn.Module, placed: Placed, layer: int) -> None:
        super().__init__(block, forward_name(block))
        self._placed, self._layer = placed, layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        running = self._placed.state.running
        slots = running.token_slot
        if slots is None:
            refuse_alone()
        if torch.compiler.is_compiling():
            self._is_traced()
        else:
            running.steered.add(self._layer)
        return map_stream(
            self.original(*args, **kwargs),
            lambda rows: steered_rows(rows, slots, self._placed, self._layer),
        )

    @constant_in_trace
    def _is_traced(self) -> bool:
        self._placed.state.traced.add(self._layer)
        return True
