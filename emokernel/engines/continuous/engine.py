"""Continuous batching of a patched model: its entries, and the rows of its batches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from emokernel.engines.base import Engine, ForwardCall
from emokernel.engines.continuous.managed import (
    NOT_GIVEN,
    TOKEN_SLOT,
    ManagedRequests,
)
from emokernel.engines.continuous.running import ticketed
from emokernel.engines.requested import Requested
from emokernel.errors import SteeringError
from emokernel.replaced import Around, ReplacedMethod
from emokernel.state import UNTOUCHED, Asked, DeviceState
from emokernel.state.tickets import Tickets


class ContinuousBatching(Engine):
    """Continuous batching of one patched model, in which each request has an emotion of its own.

    That is what its own argument says, else what is asked for where the request is added; it holds,
    with the slot of its mix, until the request has ended. docs/batching.md shows the entries.
    """

    def __init__(self, requested: Requested) -> None:
        self._requested = requested
        self._tickets = Tickets(requested.slots)
        # Weak: each lives as long as its manager.
        self._managed: weakref.WeakSet[ManagedRequests] = weakref.WeakSet()

    def claims(self, call: ForwardCall) -> bool:
        """Whether the call holds sequences side by side in one row."""
        named = call.named
        return named.get("cu_seq_lens_q") is not None or named.get(TOKEN_SLOT) is not None

    def token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """What a managed batch has announced.

        SteeringError if none has, and something is to be steered.
        """
        announced = call.named.get(TOKEN_SLOT)
        if announced is not None:  # by a thread that is asked for nothing: each request has its own
            return announced.to(state.device)
        if self._requested.plan() is not None:
            raise _not_managed()
        rows = call.tokens.shape
        return state.constant_rows(rows[0] * rows[1], UNTOUCHED)

    def traced_token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """The same; what is asked for may change, so that there has to be a managed batch."""
        announced = call.named.get(TOKEN_SLOT)
        if announced is None:
            raise _not_managed()
        return announced.to(state.device)

    def replacements(self, model: nn.Module) -> list[ReplacedMethod]:
        """What takes the place of the model's own entries; none if it has none."""
        if not hasattr(model, "init_continuous_batching"):
            return []
        return [
            Around(model, "init_continuous_batching", self._begin),
            Around(model, "generate_batch", partial(self._generate_batch, model)),
        ]

    def _begin(self, original: Callable, *args: object, **kwargs: object) -> object:
        """A manager whose requests are steered from now on."""
        manager = original(*args, **kwargs)
        if not any(each.manager is manager for each in self._managed):
            asked_for = partial(self._asked_for, manager.model)
            self._managed.add(ManagedRequests(manager, self._tickets, asked_for))
        return manager

    def _generate_batch(
        self,
        model: nn.Module,
        original: Callable,
        inputs: Sequence[Sequence[int]],
        *args: object,
        **kwargs: object,
    ) -> object:
        """Each prompt under what is asked for now; what cannot be is told before anything runs."""
        if not inputs:
            return original(inputs, *args, **kwargs)
        asked = self._asked_for(model, len(inputs), NOT_GIVEN)
        with ticketed(self._tickets, asked, inputs) as prompts:
            return original(prompts, *args, **kwargs)

    def check_idle(self) -> None:
        """SteeringError if steered requests run."""
        if running := sum(each.running.steered for each in list(self._managed)):
            raise SteeringError(
                f"continuous batching runs {running} steered requests: let them finish, or cancel"
                " them, before unpatch()"
            )

    def leave(self) -> None:
        """Give all managers their methods back."""
        for each in list(self._managed):
            each.detach()
        self._managed.clear()

    def _asked_for(self, model: nn.Module, count: int, emotions: object) -> list[Asked]:
        """What ``count`` prompts ask for, by ``emotions`` or by the context."""
        if emotions is NOT_GIVEN:
            asked = self._requested.entries()
        else:
            if not isinstance(emotions, Sequence) or isinstance(emotions, str):
                raise SteeringError("emotions needs a list with one entry per prompt")
            asked = [self._requested.resolve(entry) for entry in emotions]
        if len(asked) not in (1, count) or not asked:
            raise SteeringError(
                f"{len(asked)} requests do not fit {count} prompts: give one for each, one for all,"
                " or add_request(..., emotion=...)"
            )
        if any(mix is not None for mix, _ in asked):
            _check_alone(model)
        return asked if len(asked) == count else asked * count


def _not_managed() -> SteeringError:
    return SteeringError(
        "packed sequences can be steered only in continuous batching that this model has begun"
        " after it was patched: use model.generate_batch or model.init_continuous_batching"
    )


def _check_alone(model: nn.Module) -> None:
    """SteeringError for tensor parallelism: only one process hears what requests ask for."""
    mesh = getattr(model, "_device_mesh", None)
    if mesh is not None and mesh.size() > 1:
        raise SteeringError(
            "continuous batching over several processes (tensor parallelism) cannot be steered:"
            " run the model in one process, or use generate"
        )
