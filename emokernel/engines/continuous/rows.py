"""Which slot each row of a packed batch has.

Decided on the host, where a manager prepares its batch, and copied once to a tensor of fixed
address. That travels to the decoder as an argument of the forward, like the other inputs of the
batch, so that a compiled forward or a captured CUDA graph reads it in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emokernel.engines.continuous.running import RunningRequests
from emokernel.state import UNTOUCHED
from emokernel.state.tickets import rows_of

# The argument of the forward that holds the slots of its rows.
TOKEN_SLOT = "emokernel_token_slot"


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
        slots = rows_of(
            [self._running.get(each.state.request_id) for each in scheduled],
            [each.state.position_offset for each in scheduled],
            [each.query_length for each in scheduled],
        )
        buffer = self.buffers[which]
        rows = torch.full(buffer.shape, UNTOUCHED, dtype=torch.int32)
        rows[: len(slots)] = torch.from_numpy(slots)
        buffer.copy_(rows)

    def of_step(self, tokens: int, which: int) -> Tensor:
        """The slots of the first ``tokens`` rows, padding included: a view."""
        return self.buffers[which][:tokens]
