"""A manager of continuous batching whose requests are steered."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from emokernel.engines.continuous.prefixes import Prefixes
from emokernel.engines.continuous.running import RunningRequests, TicketedPrompt, ticketed
from emokernel.errors import SteeringError
from emokernel.replaced import Around
from emokernel.state import Asked, RowBuffer, Tickets, rows_of

# What registers filled blocks is called by the second name up to transformers 5.17.
_COMPLETE = ("mark_complete_blocks", "mark_shareable_blocks_as_complete")
NOT_GIVEN = object()
# The argument of the forward that holds the slots of its rows.
TOKEN_SLOT = "emokernel_token_slot"


class StepRows:
    """The slots of the rows of each step of a manager; padded rows are untouched.

    Decided on the host, where the batch is prepared, and copied once to a tensor of fixed address.
    That travels to the decoder as an argument of the forward, like the other inputs of the batch,
    so that a compiled forward or a captured CUDA graph reads it in place. Where the manager works
    with several sets of ``inputs`` in turn, each has a tensor of its own, of ``tokens`` rows.
    """

    def __init__(self, running: RunningRequests, inputs: Any, tokens: int, device: Any) -> None:
        self._running, self._inputs = running, inputs
        self._buffers = [RowBuffer(tokens, device) for _ in getattr(inputs, "io_pairs", "1")]

    def prepare(
        self, original: Callable, requests_in_batch: Sequence[Any], *args: object, **kw: object
    ) -> object:
        """Write the slots of a batch before it is prepared."""
        slots = rows_of(
            [self._running.get(each.state.request_id) for each in requests_in_batch],
            [each.state.position_offset for each in requests_in_batch],
            [each.query_length for each in requests_in_batch],
        )
        self._buffer.write(slots)
        return original(requests_in_batch, *args, **kw)

    def add_to(self, original: Callable, *args: object, **kwargs: object) -> object:
        """The arguments of the forward, the slots of all its rows among them."""
        given = original(*args, **kwargs)
        given[TOKEN_SLOT] = self._buffer.tensor[: given["input_ids"].shape[1]]
        return given

    @property
    def _buffer(self) -> RowBuffer:
        return self._buffers[getattr(self._inputs, "current_pair", 0)]


class ManagedRequests:
    """What a manager's methods do besides what they did.

    The thread of a manager reads what it needs from here: no context variable reaches it.
    """

    def __init__(
        self,
        manager: Any,
        tickets: Tickets,
        asked_for: Callable[[int, object], list[Asked]],
    ) -> None:
        """``asked_for(count, emotions)``: what that many prompts ask for."""
        self.manager = manager
        self._tickets, self._asked_for = tickets, asked_for
        self.running = RunningRequests(tickets)
        # Between the choice of free ids and the registration of the last of them.
        self._adding = threading.RLock()
        self._prefixes = Prefixes(self.running)
        # Weak, since a processor, whose cache is large, goes before its manager.
        self._replaced: weakref.WeakSet[Around] = weakref.WeakSet()
        self._processor: Callable[[], Any] = lambda: None
        self._forks = manager.num_return_sequences - 1
        router = manager.output_router
        self._around(manager, "add_request", self._add_request)
        self._around(manager, "add_requests", self._add_requests)
        self._around(manager, "_create_batch_processor", self._create_processor)
        self._around(manager, "_handle_critical_error", self._handle_critical_error)
        self._around(router, "deliver", self._deliver)
        self._around(router, "deliver_batch", self._deliver_batch)
        self._around(router, "fail_and_deliver", self._fail_and_deliver)
        if manager.batch_processor is not None:
            self._join(manager.batch_processor)
        weakref.finalize(manager, self.running.end_all).atexit = False

    def detach(self) -> None:
        """Give the manager its own methods back."""
        for method in list(self._replaced):
            method.restore()

    def _around(self, owner: Any, name: str, around: Callable[..., object]) -> None:
        method = Around(owner, name, around)
        method.install()
        self._replaced.add(method)

    def _add_request(
        self,
        original: Callable,
        input_ids: Sequence[int],
        request_id: str | None = None,
        *args: object,
        emotion: object = NOT_GIVEN,
        **kwargs: object,
    ) -> str | None:
        if not isinstance(input_ids, TicketedPrompt):
            asked = self._asked_for(1, NOT_GIVEN if emotion is NOT_GIVEN else [emotion])
            with ticketed(self._tickets, asked, [input_ids]) as (prompt,):
                return self._add_request(original, prompt, request_id, *args, **kwargs)
        with self._adding:
            request_id = self._new_id() if request_id is None else request_id
            self.running.add(request_id, input_ids.ticket, self._forks)
        added = None
        try:
            added = original(input_ids, request_id, *args, **kwargs)
        finally:
            if added is None:  # refused: by a full queue, by a manager that stops
                self.running.end(request_id, self._forks)
        return added

    def _new_id(self) -> str:
        """The id that the manager would give, which has to be known before the request is added."""
        with self.manager._request_lock:
            number = self._next_free(1)
            self.manager._request_counter = number + 1
        return f"req_{number}"

    def _next_free(self, count: int) -> int:
        """The first of the next ``count`` numbers in a row of which no request has an id yet."""
        first = number = self.manager._request_counter
        while number < first + count:
            if self.running.runs(f"req_{number}", self._forks):
                first = number + 1
            number += 1
        return first

    def _add_requests(
        self,
        original: Callable,
        inputs: Sequence[Sequence[int]],
        *args: object,
        emotions: object = NOT_GIVEN,
        **kwargs: object,
    ) -> list[str]:
        if inputs and all(isinstance(prompt, TicketedPrompt) for prompt in inputs):
            return original(inputs, *args, **kwargs)
        asked = self._asked_for(len(inputs), emotions)
        with ticketed(self._tickets, asked, inputs) as prompts, self._adding:
            with self.manager._request_lock:  # the ids will be those in a row from here on
                self.manager._request_counter = self._next_free(len(inputs))
            return original(prompts, *args, **kwargs)

    def _create_processor(self, original: Callable) -> object:
        processor = original()
        self._join(processor)
        return processor

    def _join(self, processor: Any) -> None:
        """Follow the batches of a processor; once for each."""
        if self._processor() is processor:
            return
        self._processor = weakref.ref(processor)
        inputs, cache = processor.inputs_and_outputs, processor.cache
        rows = StepRows(self.running, inputs, processor.max_batch_tokens, processor.model_device)
        self._around(inputs, "prepare_batch_tensors", rows.prepare)
        self._around(inputs, "get_model_kwargs", rows.add_to)
        self._around(processor.scheduler, "clear_cancelled_requests", self._clear_cancelled)
        self._around(cache, "search_prefix_match", self._prefixes.search)
        self._around(cache, complete_method(cache), self._prefixes.complete)

    def _clear_cancelled(self, original: Callable) -> list[Any]:
        cancelled = original()
        for state in cancelled:
            self.running.end(state.request_id, state.num_children)
        return cancelled

    # A slot is free before anybody is told that its request has ended.
    def _deliver(self, original: Callable, output: Any) -> None:
        self._end_if_finished(output)
        original(output)

    def _deliver_batch(self, original: Callable, outputs: Sequence[Any]) -> None:
        for output in outputs:
            self._end_if_finished(output)
        original(outputs)

    def _fail_and_deliver(self, original: Callable, state: Any, error: Exception) -> None:
        self.running.end(state.request_id, state.num_children)
        original(state, error)

    def _end_if_finished(self, output: Any) -> None:
        if output.status.name in ("FINISHED", "FAILED"):
            self.running.end(output.request_id)

    def _handle_critical_error(self, original: Callable, *args: object, **kwargs: object) -> None:
        """Nothing runs after such an error: also what transformers lost sight of has ended."""
        try:
            original(*args, **kwargs)
        finally:
            self.running.end_all()


def complete_method(cache: Any) -> str:
    """How the cache's method is called that registers filled blocks; SteeringError if unknown."""
    name = next((name for name in _COMPLETE if hasattr(cache, name)), None)
    if name is None:
        raise SteeringError(
            "this release of transformers shares cached blocks in a way that emokernel does not"
            " know: use an older one"
        )
    return name
