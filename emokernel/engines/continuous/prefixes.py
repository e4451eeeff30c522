"""Which cached blocks a request may share.

transformers finds a block by a hash chain of token ids. A steered token changes what the layers
behind it compute, for itself and for the tokens after it, so that it counts as another token: the
hash of a block with steered tokens reads, behind their ids, a number for the mix of each. A block
without steered tokens is hashed as ever, and what follows a steered block differs by the chain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from emokernel.engines.continuous.running import RunningRequests
from emokernel.state import UNTOUCHED, Mix
from emokernel.state.tickets import Ticket

# Never the same number for two mixes, nor for those of two patches of a model.
_NUMBERS = itertools.count(1)
_REMEMBERED = 4096  # a mix that was forgotten gets a new number: it shares nothing with before


class HashedTokens(list):
    """Token ids from the start of a request, whose slices are what blocks are hashed by."""

    def __init__(self, ids: list[int], ticket: Ticket, number: int) -> None:
        super().__init__(ids)
        slots = ticket.slots_of(0, len(ids))
        self._salt = [0 if slot == UNTOUCHED else number for slot in slots]

    def __getitem__(self, index: Any) -> Any:
        tokens, salt = super().__getitem__(index), self._salt[index]
        return tokens + salt if isinstance(index, slice) and any(salt) else tokens

    def __add__(self, generated: list[Any]) -> HashedTokens:
        return self  # what was generated is among them


class Prefixes:
    """Hides the ids of steered tokens from the search for blocks of one manager."""

    def __init__(self, running: RunningRequests) -> None:
        self._running = running
        self._number: Callable[[Mix], int] = lru_cache(_REMEMBERED)(lambda mix: next(_NUMBERS))

    def search(self, original: Callable, request_id: str, prompt_ids: list[int]) -> int:
        """In the place of the cache's search for the blocks that a prompt begins with."""
        return original(request_id, self._hashed(request_id, prompt_ids))

    def complete(self, original: Callable, state: Any, blocks: object) -> None:
        """In the place of the cache's registration of the blocks that a step has filled.

        A request that was cancelled while its step ran registers none: nothing says any more how
        they were steered.
        """
        if self._running.get(state.request_id) is None:
            return
        tokens = state.initial_tokens + state.generated_tokens
        hashed = self._hashed(state.request_id, tokens)
        told = {"request_id": state.request_id, "status": state.status}
        original(SimpleNamespace(**told, initial_tokens=hashed, generated_tokens=[]), blocks)

    def _hashed(self, request_id: str, ids: list[int]) -> list[int]:
        ticket = self._running.get(request_id)
        if ticket is None or ticket.mix is None:
            return ids
        return HashedTokens(ids, ticket, self._number(ticket.mix))
