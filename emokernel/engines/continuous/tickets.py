"""What each request of a managed batch asked for, from the moment it was added to its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from emokernel.engines.rows import GENERATED, LAST, POSITIONS, PROMPT
from emokernel.errors import SteeringError
from emokernel.slots import MixSlots
from emokernel.state import UNTOUCHED, Mix

# (The mix, None: nothing; the positions) of a request.
Asked = tuple[Mix | None, str]


class Ticket:
    """How one request is steered: its slots and where its prompt ends.

    ``slots[kind]`` is the slot of its prompt tokens, of the last of them and of its generated
    tokens. The prompt is what the request was added with: transformers turns generated tokens into
    prompt when it has to evict a request, here they stay generated.
    """

    def __init__(self, asked: Asked, slot: int, prompt_length: int) -> None:
        self.mix, positions = asked
        self.slots = [slot if allowed else UNTOUCHED for allowed in POSITIONS[positions]]
        self.prompt_length = prompt_length
        self.added = False
        self.running = 0  # the request and the forks of it that have not ended

    @property
    def steers(self) -> bool:
        """Whether any of its tokens is steered."""
        return self.mix is not None

    def slots_of(self, start: int, stop: int) -> list[int]:
        """The slots of the tokens ``start`` to ``stop`` of the request, counted from its start."""
        end = self.prompt_length
        prompt = max(0, min(stop, end - 1) - start)
        last = int(start < end <= stop)
        generated = stop - start - prompt - last
        return (
            [self.slots[PROMPT]] * prompt
            + [self.slots[LAST]] * last
            + [self.slots[GENERATED]] * generated
        )


class Tickets:
    """Makes tickets; their mixes hold slots until the tickets are given up."""

    def __init__(self, mixes: MixSlots) -> None:
        self._mixes = mixes

    def take(self, asked: Sequence[Asked], prompts: Sequence[Sequence[int]]) -> list[Ticket]:
        """A ticket for each prompt, all or none.

        SteeringError if there are not enough slots, or for a prompt without tokens: transformers
        would go on from the logits of its neighbour in the batch.
        """
        lengths = [len(prompt) for prompt in prompts]
        if 0 in lengths:
            raise SteeringError(
                f"prompt {lengths.index(0)} of {len(lengths)} has no tokens: begin it with at least"
                " one, as the tokenizer's bos_token_id"
            )
        slots = self._mixes.hold(mix for mix, _ in asked if mix is not None)
        try:
            return [
                Ticket(each, self._slot(each[0]), length)
                for each, length in zip(asked, lengths, strict=True)
            ]
        finally:
            self._mixes.release(slots)

    def _slot(self, mix: Mix | None) -> int:
        return UNTOUCHED if mix is None else self._mixes.hold([mix])[mix]

    def give_up(self, tickets: Iterable[Ticket]) -> None:
        """Give back the slots of tickets that no request uses."""
        for ticket in tickets:
            if ticket.mix is not None:
                self._mixes.release([ticket.mix])


class TicketedPrompt(list):
    """The token ids of a prompt, with the ticket that its request is to run under."""

    def __init__(self, ids: Iterable[int], ticket: Ticket) -> None:
        super().__init__(ids)
        self.ticket = ticket


class RunningRequests:
    """The tickets of the requests that a manager has not finished, by request id."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets
        self._by_id: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    def add(self, request_id: str, ticket: Ticket, forks: int) -> None:
        """A request is about to be added, which will fork into ``forks`` more.

        SteeringError if one with this id runs already.
        """
        ids = [request_id, *fork_ids(request_id, forks)]
        with self._lock:
            if self.runs(request_id, forks):
                raise SteeringError(
                    f"a request {request_id!r} is running already: give each an id of its own"
                )
            self._by_id |= dict.fromkeys(ids, ticket)
            ticket.added, ticket.running = True, len(ids)

    def runs(self, request_id: str, forks: int) -> bool:
        """Whether the id, or that of one of its forks, is in use."""
        return not self._by_id.keys().isdisjoint([request_id, *fork_ids(request_id, forks)])

    def get(self, request_id: str) -> Ticket | None:
        """The ticket of a request; None for one that was not added through this manager."""
        return self._by_id.get(request_id)

    def end(self, request_id: str, forks: int = 0) -> None:
        """A request has ended, with ``forks`` that were not made yet; harmless the second time."""
        with self._lock:
            ids = (request_id, *fork_ids(request_id, forks))
            ended = [self._by_id.pop(each) for each in ids if each in self._by_id]
            for ticket in ended:
                ticket.running -= 1
        self._tickets.give_up(ticket for ticket in dict.fromkeys(ended) if not ticket.running)

    def end_all(self) -> None:
        """All have ended."""
        for request_id in list(self._by_id):
            self.end(request_id)

    @property
    def steered(self) -> int:
        """How many requests (forks counted) run that are steered."""
        return sum(ticket.steers for ticket in list(self._by_id.values()))


def fork_ids(request_id: str, forks: int) -> list[str]:
    """The ids that transformers gives to the forks of a request (num_return_sequences - 1)."""
    return [f"{request_id}__child#{number}" for number in range(forks)]
