"""Which slot each row of a step has, decided on the host and copied where it has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emokernel.engines.vllm.asked import KINDS
from emokernel.state import UNTOUCHED, DeviceState, RowBuffer, token_slot
from emokernel.state.recent import RecentSlots

_KINDS = np.array(KINDS)
_UNTOUCHED = np.int32(UNTOUCHED)
_NONE = np.empty(0, np.int32)


class StepRows:
    """The slots of the requests of the batch that runs, and of their rows.

    Both are written without waiting for the copy, as vLLM writes its own inputs: within the
    runner's ``synchronize_input_prep``, which waits for the copies of the step before.
    """

    def __init__(self, state: DeviceState, rows: int) -> None:
        """``rows``: the most of a step, padding included; a batch has no more mixes than slots."""
        self._state, self._recent = state, RecentSlots(state.num_slots)
        self._buffer = RowBuffer(rows, state.device)
        self.token_slot = self._buffer.tensor
        self._slots: np.ndarray | None = None  # as `token_slot` takes them; None: none is steered

    def batch(self, requests: Sequence[Mapping[str, Any] | None]) -> None:
        """What the requests of the batch ask for (`asked.packed`), whenever that changes.

        In the order of their rows.
        """
        heads = [b"" if each is None else each["head"] for each in requests]
        steered = dict.fromkeys(heads)
        steered.pop(b"", None)
        if not steered:
            self._slots = None
            return
        placed, written = self._recent.place(steered)
        if written:
            self._state.write_all(list(written.values()), b"".join(written), non_blocking=True)
        slots = np.array([placed.get(head, UNTOUCHED) for head in heads], np.int32)
        kinds = bytes([0 if each is None else each["kinds"] for each in requests])
        steered_kinds = _KINDS.take(np.frombuffer(kinds, np.uint8), axis=0)
        self._slots = np.where(steered_kinds, slots[:, None], _UNTOUCHED)

    def step(self, computed: np.ndarray, prompt_lengths: np.ndarray, tokens: np.ndarray) -> None:
        """Write the rows of a step; all ``[requests]``: tokens before, of the prompt, and now."""
        if self._slots is None:
            self.clear()
        else:
            rows = token_slot(self._slots, computed, prompt_lengths, tokens)
            self._buffer.write(rows, non_blocking=True)

    def clear(self) -> None:
        """No row is steered: of a step that no request asked for."""
        self._buffer.write(_NONE, non_blocking=True)
