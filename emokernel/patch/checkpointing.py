"""Gradient checkpointing of patched blocks: what is run again has the rows of its own forward.

A block is run again within the backward pass, outside of its model's forward, perhaps after another
one and after other requests. So the checkpointing function of each block remembers, for each call,
which slot every row had and what the slots held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.state import DeviceState

_SWITCH, _FUNCTION = "gradient_checkpointing", "_gradient_checkpointing_func"


def checkpointed(function: FunctionType, forward: Callable) -> FunctionType:
    """``function``, which stands for the ``forward`` of a class, checkpointed like that is.

    Newer transformers checkpoint within the forward of a block, older ones around it.
    """
    module = getattr(forward, "__globals__", {}).get("__name__")
    if module != "transformers.modeling_layers" or not hasattr(forward, "__wrapped__"):
        return function
    inner = forward.__wrapped__
    cells = [CellType(function) if c.cell_contents is inner else c for c in forward.__closure__]
    return FunctionType(
        forward.__code__, forward.__globals__, forward.__name__, forward.__defaults__, tuple(cells)
    )


class Checkpoints:
    """The checkpointing functions of a decoder's blocks, wrapped while the model is patched."""

    def __init__(self, owner: nn.Module, states: Sequence[DeviceState]) -> None:
        self._modules = [part for part in owner.modules() if hasattr(part, _SWITCH)]
        self._states = list(states)

    def remember(self) -> None:
        """Wrap what `gradient_checkpointing_enable` has put there since."""
        for module in self._modules:
            function = vars(module).get(_FUNCTION)
            if function is not None and not isinstance(function, Remembering):
                vars(module)[_FUNCTION] = Remembering(function, self._states)

    def remove(self) -> None:
        """Unwrap them all."""
        for module in self._modules:
            function = vars(module).get(_FUNCTION)
            if isinstance(function, Remembering):
                vars(module)[_FUNCTION] = function.function


class Remembering:
    """A checkpointing function that runs a block again with the rows of the first time."""

    def __init__(self, function: Callable, states: Sequence[DeviceState]) -> None:
        self.function, self._states = function, states

    def __call__(self, block: Callable, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # rows and slots are inputs of the graph
            return self.function(block, *args, **kwargs)
        return self.function(_Again(block, self._states, args), *args, **kwargs)

    def __reduce__(self) -> tuple[Callable, tuple[Callable]]:
        return _itself, (self.function,)


def _itself(function: Callable) -> Callable:
    return function


class _Again:
    """A block as it is run now, now and whenever it is called again."""

    def __init__(
        self, block: Callable, states: Sequence[DeviceState], args: tuple[Any, ...]
    ) -> None:
        self._block = block
        self._rows = [
            (state, running.token_slot, running.untouched, running.tables)
            for state in states
            for running in (state.running,)
        ]
        # Checkpointing of the reentrant kind gives gradients only if an input requires one.
        self._loses = (
            torch.is_grad_enabled()
            and any(state.learned is not None for state in states)
            and not any(isinstance(each, Tensor) and each.requires_grad for each in args)
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._loses and not torch.is_grad_enabled():
            raise SteeringError(
                "reentrant gradient checkpointing gives no gradient to the vectors that are"
                " learned: pass gradient_checkpointing_kwargs={'use_reentrant': False}, or call"
                " model.enable_input_require_grads()"
            )
        outer = [
            (running, running.token_slot, running.untouched, running.tables, running.checkpointed)
            for running in (state.running for state, *_ in self._rows)
        ]
        try:
            for state, token_slot, untouched, tables in self._rows:
                running = state.running
                running.token_slot, running.untouched = token_slot, untouched
                running.tables, running.checkpointed, running.handed = tables, True, None
            return self._block(*args, **kwargs)
        finally:
            for running, *kept in outer:
                running.token_slot, running.untouched, running.tables, running.checkpointed = kept
