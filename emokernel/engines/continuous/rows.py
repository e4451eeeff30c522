"""Which slot each row of a packed batch has.

Decided on the host, where a manager prepares its batch, and copied once to a tensor of fixed
address. That travels to the decoder as an argument of the forward, like the other inputs of the
batch, so that a compiled forward or a captured CUDA graph reads it in place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emokernel.engines.continuous.tickets import RunningRequests
from emokernel.errors import SteeringError
from emokernel.state import UNTOUCHED, DeviceState

# The argument of the forward that holds the slots of its rows.
TOKEN_SLOT = "emokernel_token_slot"


def is_packed(named: Collection[str]) -> bool:
    """Whether a forward call with these arguments holds sequences side by side in one row."""
    return "cu_seq_lens_q" in named


def is_announced(named: Mapping[str, Any]) -> bool:
    """Whether a managed batch says which slots a packed call has."""
    return named.get(TOKEN_SLOT) is not None


def packed_rows(named: Mapping[str, Any], state: DeviceState, steers: bool) -> Tensor:
    """The slots of a packed call, which a managed batch has announced.

    SteeringError if none has, and something is to be steered.
    """
    announced = named.get(TOKEN_SLOT)
    if announced is not None:
        return announced.to(state.device)
    if steers:
        raise SteeringError(
            "packed sequences can be steered only in continuous batching that this model has begun"
            " after it was patched: use model.generate_batch or model.init_continuous_batching"
        )
    ids = named.get("input_ids")
    rows = named["inputs_embeds"] if ids is None else ids
    return state.constant_rows(rows.shape[0] * rows.shape[1], UNTOUCHED)


class StepRows:
    """The slots of the rows of each step of a manager; padded rows are untouched.

    ``buffers``: one int32 tensor for each set of inputs that the manager works with in turn, each
    with an entry for every token that a batch can hold.
    """

    def __init__(self, running: RunningRequests, tokens: int, sets: int, device: Any) -> None:
        self._running = running
        with torch.inference_mode(False):
            self.buffers = [
                torch.full((tokens,), UNTOUCHED, dtype=torch.int32, device=device)
                for _ in range(sets)
            ]

    def prepare(self, scheduled: Sequence[Any], which: int) -> None:
        """Write the slots of a batch, one host-to-device copy.

        ``scheduled``: transformers' states of its requests before the batch is prepared, in order.
        """
        slots: list[int] = []
        for each in scheduled:
            start, tokens = each.state.position_offset, each.query_length
            ticket = self._running.get(each.state.request_id)
            if ticket is None:
                slots += [UNTOUCHED] * tokens
            else:
                slots += ticket.slots_of(start, start + tokens)
        buffer = self.buffers[which]
        slots += [UNTOUCHED] * (len(buffer) - len(slots))
        buffer.copy_(torch.tensor(slots, dtype=torch.int32))

    def of_step(self, tokens: int, which: int) -> Tensor:
        """The slots of the first ``tokens`` rows, padding included: a view."""
        return self.buffers[which][:tokens]
