"""From requests to rows: which slot each row of a step has.

Whoever runs a model, a row belongs to one request and stands at one *place* in it, counted from its
first token. Its slot follows from that and from where the prompt of the request ends.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from emokernel.state.mix import UNTOUCHED, Kinds

# The kinds of token that a request may steer, in the order of `Kinds`.
PROMPT, LAST, GENERATED = range(3)

Array = TypeVar("Array", Tensor, np.ndarray)


def by_kind(slot: int, kinds: Kinds) -> list[int]:
    """The slot of each kind of token of a request whose mix is in ``slot``."""
    return [slot if steered else UNTOUCHED for steered in kinds]


def slot_at(slots: Array, request: Array, place: Array, last: Array) -> Array:
    """The slot of the token at ``place`` of ``request``, whose last prompt token is at ``last``.

    ``slots`` ``[requests, 3]``: as `by_kind`. The others are integers of shapes that broadcast,
    which is the shape of the result.
    """
    kind = (place >= last) * 1 + (place > last)  # PROMPT, LAST or GENERATED
    return cast(Array, slots[request, kind])


def token_slot(
    slots: Array, computed: Array, prompt_lengths: Array, tokens: Array, rows: int | None = None
) -> Array:
    """The slots ``[rows]`` of a step in which requests stand side by side, each with its tokens.

    ``slots`` ``[requests, 3]``: as `by_kind`. ``computed`` ``[requests]``: the tokens of each that
    were computed before, ``prompt_lengths`` ``[requests]``, ``tokens`` ``[requests]``: how many it
    has in this step. All are numpy arrays, or all are tensors on one device; there ``rows``, the
    sum of ``tokens``, saves reading it back.
    """
    if isinstance(tokens, Tensor):
        number = torch.arange(len(tokens), device=tokens.device)
        request = number.repeat_interleave(tokens, output_size=rows)
        step = torch.arange(len(request), device=tokens.device)
    else:
        request = np.arange(len(tokens)).repeat(tokens)
        step = np.arange(len(request))
    before = tokens.cumsum(0) - tokens
    place = computed[request] + step - before[request]
    return cast(Array, slot_at(slots, request, place, prompt_lengths[request] - 1))


class RowBuffer:
    """The slots of a step's rows, int32 ``[rows]``, at a fixed address; untouched behind the last.

    For engines that write them before the forward, which a captured graph may read.
    """

    def __init__(self, rows: int, device: torch.device | str) -> None:
        with torch.inference_mode(False):
            self.tensor = torch.full((rows,), UNTOUCHED, dtype=torch.int32, device=device)
            pinned = self.tensor.is_cuda
            self._host = torch.full((rows,), UNTOUCHED, dtype=torch.int32, pin_memory=pinned)
        self._slots, self._steered = self._host.numpy(), 0

    def write(self, slots: np.ndarray, *, non_blocking: bool = False) -> None:
        """Put ``slots`` first, int32 ``[<= rows]``; one host-to-device copy, if any has changed.

        ``non_blocking`` as in `DeviceState.write_all`.
        """
        end = max(len(slots), self._steered)
        if len(slots) < end or not np.array_equal(self._slots[:end], slots):
            self._slots[: len(slots)], self._slots[len(slots) : end] = slots, UNTOUCHED
            self._steered = len(slots)
            self.tensor[:end].copy_(self._host[:end], non_blocking=non_blocking)
