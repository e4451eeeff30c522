"""Plain forward calls and `generate`: the rows of each call are decided in Python."""

from __future__ import annotations

from torch import Tensor, nn

from emokernel.engines.arguments import follow_call, is_unpadded, read_call
from emokernel.engines.base import Engine, ForwardCall
from emokernel.engines.generate.recorded import RecordedGenerate
from emokernel.engines.requested import Requested
from emokernel.replaced import ReplacedMethod
from emokernel.state import UNTOUCHED, DeviceState


class PlainForwards(Engine):
    """Everything that nobody else claims."""

    def __init__(self, requested: Requested) -> None:
        self._requested = requested

    def claims(self, call: ForwardCall) -> bool:
        """Every call that Python runs."""
        return not call.traced

    def token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """By what is asked for in this thread, and by where the prompts of a `generate` end."""
        requested = self._requested
        plan = requested.plan()
        slot = UNTOUCHED if plan is None else plan.slot_of_all
        generation = requested.callers.generation()
        if plan is None:
            follow_call(generation, call, state.device)
        elif slot is None or generation is not None or not is_unpadded(call):
            return plan.token_slot(read_call(generation, call, plan.mask, state.device), state)
        batch, tokens = call.tokens.shape[:2]
        return state.constant_rows(batch * tokens, slot)

    def replacements(self, model: nn.Module) -> list[ReplacedMethod]:
        """`generate`."""
        return [RecordedGenerate(model, self._requested)] if hasattr(model, "generate") else []
