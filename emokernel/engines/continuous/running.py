"""The tickets of the requests that a manager of continuous batching runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from emokernel.errors import SteeringError
from emokernel.state import Asked
from emokernel.state.tickets import Ticket, Tickets


class TicketedPrompt(list):
    """The token ids of a prompt, with the ticket that its request is to run under."""

    def __init__(self, ids: Iterable[int], ticket: Ticket) -> None:
        super().__init__(ids)
        self.ticket = ticket


@contextmanager
def ticketed(
    tickets: Tickets, asked: Sequence[Asked], inputs: Sequence[Sequence[int]]
) -> Iterator[list[TicketedPrompt]]:
    """Each prompt with a ticket; those of which no request was made by the end are given up."""
    taken = tickets.take(asked, map(len, inputs))
    try:
        yield [TicketedPrompt(*each) for each in zip(inputs, taken, strict=True)]
    finally:
        tickets.give_up(ticket for ticket in taken if not ticket.added)


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
        ids = _with_forks(request_id, forks)
        with self._lock:
            if not self._by_id.keys().isdisjoint(ids):
                raise SteeringError(
                    f"a request {request_id!r} is running already: give each an id of its own"
                )
            self._by_id |= dict.fromkeys(ids, ticket)
            ticket.added, ticket.running = True, len(ids)

    def get(self, request_id: str) -> Ticket | None:
        """The ticket of a request; None for one that was not added through this manager."""
        return self._by_id.get(request_id)

    def end(self, request_id: str, forks: int = 0) -> None:
        """A request has ended, with ``forks`` that were not made yet; harmless the second time."""
        with self._lock:
            ids = _with_forks(request_id, forks)
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
        return sum(ticket.mix is not None for ticket in list(self._by_id.values()))


def _with_forks(request_id: str, forks: int) -> list[str]:
    """An id, and those that transformers gives to the forks (num_return_sequences - 1) of it."""
    return [request_id, *(f"{request_id}__child#{number}" for number in range(forks))]
