"""Gradient checkpointing of patched blocks: what is run again has the rows of its own forward.

A block is run again within the backward pass, outside of its model's forward, perhaps after another
one and after other requests. So the checkpointing function of each block remembers, for each call,
which slot every row had and what the slots held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.state import DeviceState

_SWITCH, _FUNCTION = "gradient_checkpointing", "_gradient_checkpointing_func"


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

    def __call__(self, block: Callable, *args: object, **kwargs: object) -> object:
        if torch.compiler.is_compiling():  # rows and slots are inputs of the graph
            return self.function(block, *args, **kwargs)
        kept = [(state.running, dict(vars(state.running))) for state in self._states]
        # Checkpointing of the reentrant kind gives gradients only if an input requires one.
        loses = (
            torch.is_grad_enabled()
            and any(state.learned is not None for state in self._states)
            and not any(isinstance(each, Tensor) and each.requires_grad for each in args)
        )

        def run(*args: object, **kwargs: object) -> object:
            if loses and not torch.is_grad_enabled():
                raise SteeringError(
                    "reentrant gradient checkpointing gives no gradient to the vectors that are"
                    " learned: pass gradient_checkpointing_kwargs={'use_reentrant': False}, or call"
                    " model.enable_input_require_grads()"
                )
            outer = [dict(vars(running)) for running, _ in kept]
            try:
                for running, then in kept:
                    vars(running).update(then, checkpointed=True, handed=None)
                return block(*args, **kwargs)
            finally:
                for (running, _), own in zip(kept, outer, strict=True):
                    vars(running).update(own, handed=None)

        return self.function(run, *args, **kwargs)

    def __reduce__(self) -> tuple[Callable, tuple[Callable]]:
        return _itself, (self.function,)


def _itself(function: Callable) -> Callable:
    return function
