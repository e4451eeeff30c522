"""Which slot each row of a packed batch has.

Decided on the host, where a manager prepares its batch, and copied once to a tensor of fixed
address. That travels to the decoder as an argument of the forward, like the other inputs of the
batch, so that a compiled forward or a captured CUDA graph reads it in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from emokernel.engines.continuous.running import RunningRequests
from emokernel.state import RowBuffer, rows_of

# The argument of the forward that holds the slots of its rows.
TOKEN_SLOT = "emokernel_token_slot"


class StepRows:
    """The slots of the rows of each step of a manager; padded rows are untouched.

    One buffer for each of the ``sets`` of inputs that the manager works with in turn, each with an
    entry for every one of the ``tokens`` that a batch can hold.
    """

    def __init__(self, running: RunningRequests, tokens: int, sets: int, device: Any) -> None:
        self._running = running
        self.buffers = [RowBuffer(tokens, device) for _ in range(sets)]

    def prepare(self, scheduled: Sequence[Any], which: int) -> None:
        """Write the slots of a batch.

        ``scheduled``: transformers' states of its requests before the batch is prepared, in order.
        """
        slots = rows_of(
            [self._running.get(each.state.request_id) for each in scheduled],
            [each.state.position_offset for each in scheduled],
            [each.query_length for each in scheduled],
        )
        self.buffers[which].write(slots)

    def of_step(self, tokens: int, which: int) -> Tensor:
        """The slots of the first ``tokens`` rows, padding included: a view."""
        return self.buffers[which].tensor[:tokens]
