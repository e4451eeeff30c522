"""The block that `Steering.requests` gives: requests that hold in a context and may change."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from torch import Tensor

from emokernel.affect.mixes import Emotion
from emokernel.engines.plan import BatchPlan
from emokernel.engines.requested import Requested
from emokernel.errors import SteeringError
from emokernel.requests import Request
from emokernel.state import Asked


class OpenRequests:
    """The requests of a `Steering.requests` block, which is entered once."""

    def __init__(
        self,
        requested: Requested,
        requests: Sequence[Emotion | Request],
        prompt_lengths: Sequence[int] | Tensor | None,
        attention_mask: Tensor | None,
    ) -> None:
        """Made by `Steering.requests`."""
        self._requested = requested
        self._requests, self._recorded = requests, (prompt_lengths, attention_mask)
        self._lock = Lock()  # held while they change, or are closed
        self._asked: list[Asked] = []
        self.plan: BatchPlan | None = None
        self.closed = False

    def __enter__(self) -> OpenRequests:
        with self._lock:
            if self.closed or self.plan is not None:
                raise SteeringError(
                    "a requests block is entered once: call steering.requests(...) for each `with`"
                )
            self.plan, self._asked = self._planned(self._requests)
        try:
            self._requested.callers.enter(self)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self.closed and self.plan is not None:
            self._requested.callers.leave(self, error, self._close)

    def change(self, requests: Sequence[Emotion | Request]) -> None:
        """From the next forward call on, these requests, as many as there were.

        Meant for a streamer or a logits processor, in whatever thread: what they ask for holds from
        the next token on. SteeringError if there are not enough slots for the new mixes beside the
        old, or the block is not open; nothing changes then.
        """
        with self._lock:
            entries = self._open_plan().entries
            if len(requests) != entries:
                raise SteeringError(f"{len(requests)} requests cannot take the place of {entries}")
            plan, asked = self._planned(requests)
            try:
                self._requested.callers.put(self, "plan", plan)
            except BaseException:
                self._release(asked)
                raise
            unused, self._asked = self._asked, asked
            self._release(unused)

    def _planned(self, requests: Sequence[Emotion | Request]) -> tuple[BatchPlan, list[Asked]]:
        """(A plan of them, what each asks for); the mixes hold slots from now on."""
        if not isinstance(requests, Sequence) or isinstance(requests, str) or not requests:
            raise SteeringError("requests needs a list with one entry per sequence of the batch")
        asked = [self._requested.resolve(entry) for entry in requests]
        slots = self._requested.slots.hold(mix for mix, _ in asked)
        try:
            return BatchPlan(slots, [kinds for _, kinds in asked], *self._recorded), asked
        except BaseException:
            self._release(asked)
            raise

    def _release(self, asked: Sequence[Asked]) -> None:
        self._requested.slots.release(mix for mix, _ in asked)

    def for_batching(self) -> list[Asked]:
        """What each entry asks for; SteeringError if it also says which tokens are prompt."""
        self._open_plan()
        if any(given is not None for given in self._recorded):
            raise SteeringError(
                "continuous batching knows its prompts and pads nothing: leave prompt_lengths and"
                " attention_mask out of requests"
            )
        return self._asked

    def _open_plan(self) -> BatchPlan:
        if self.closed or self.plan is None:
            raise SteeringError(
                "this requests block is not open: what is asked for within it ends with it; open"
                " another with steering.requests(...)"
            )
        return self.plan

    def _close(self) -> None:
        with self._lock:
            self.closed = True
            unused, self._asked = self._asked, []
            self._release(unused)
