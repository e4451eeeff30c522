"""What each live request asked for, from the moment it was added to its end.

For engines whose batches change from step to step: requests are known by an id, and each holds the
slot of its mix until it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from emokernel.errors import SteeringError
from emokernel.state.mix import UNTOUCHED, Asked
from emokernel.state.rows import by_kind, token_slot
from emokernel.state.slots import MixSlots


class Ticket:
    """How one request is steered: its slots and where its prompt ends.

    ``slots`` is as `by_kind`. The prompt is what the request was added with: engines turn generated
    tokens into prompt when they have to evict a request, here they stay generated.
    """

    def __init__(self, asked: Asked, slot: int, prompt_length: int) -> None:
        self.mix = asked.mix
        self.slots = by_kind(slot, asked.kinds)
        self.prompt_length = prompt_length
        self.added = False
        self.running = 0  # the request and the forks of it that have not ended

    def slots_of(self, start: int, stop: int) -> list[int]:
        """The slots of the tokens ``start`` to ``stop`` of the request, counted from its start."""
        return rows_of([self], [start], [max(0, stop - start)]).tolist()


def rows_of(
    tickets: Sequence[Ticket | None], computed: Sequence[int], tokens: Sequence[int]
) -> np.ndarray:
    """The slots of a step, int32 ``[rows]``, as `token_slot`; without a ticket: untouched."""
    slots = [(UNTOUCHED,) * 3 if ticket is None else ticket.slots for ticket in tickets]
    lengths = [0 if ticket is None else ticket.prompt_length for ticket in tickets]
    return token_slot(
        np.array(slots, np.int32).reshape(-1, 3),
        np.array(computed, np.int64),
        np.array(lengths, np.int64),
        np.array(tokens, np.int64),
    )


class Tickets:
    """Makes tickets; their mixes hold slots until the tickets are given up."""

    def __init__(self, mixes: MixSlots) -> None:
        self._mixes = mixes

    def take(self, asked: Sequence[Asked], prompt_lengths: Iterable[int]) -> list[Ticket]:
        """A ticket for each prompt, which has so many tokens; all or none.

        SteeringError if there are not enough slots, or for a prompt without tokens: what a batch
        goes on from would be the logits of its neighbour.
        """
        lengths = list(prompt_lengths)
        if 0 in lengths:
            raise SteeringError(
                f"prompt {lengths.index(0)} of {len(lengths)} has no tokens: begin it with at least"
                " one, as the tokenizer's bos_token_id"
            )
        slots = self._mixes.hold(mix for mix, _ in asked)
        return [Ticket(*each) for each in zip(asked, slots, lengths, strict=True)]

    def give_up(self, tickets: Iterable[Ticket]) -> None:
        """Give back the slots of tickets that no request uses."""
        self._mixes.release(ticket.mix for ticket in tickets)
