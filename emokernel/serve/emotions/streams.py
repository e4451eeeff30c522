"""Texts that are written side by side in one batch, as events, and how their emotions change."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from tokenizers.decoders import DecodeStream

from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.measure.sampling import Sampling, Writing
from emokernel.requests import Request
from emokernel.serve.emotions.context import Context
from emokernel.serve.emotions.schemas import Changed, Done, End, Failed, Piece, Start, Usage
from emokernel.serve.emotions.told import told
from emokernel.serve.front.errors import NotFoundError
from emokernel.steering import Steering

if TYPE_CHECKING:
    from emokernel.serve.service import Service

logger = logging.getLogger(__name__)

_END = b"data: [DONE]\n\n"
_GONE = "there is no such stream, or it has ended: the first event of a compare says its token"
# A proxy that buffers would give a stream at its end.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Held:
    """Slots for the mixes of ``requests``, until ``release`` is called or this is forgotten.

    NoFreeSlotError if there are not enough. A step finds its mixes written, and cannot be refused
    for want of a slot in the middle of a text.
    """

    def __init__(self, steering: Steering, requests: Sequence[Request | None]) -> None:
        resolve, slots = steering.requested.resolve, steering.requested.slots
        mixes = [resolve(request).mix for request in requests if request is not None]
        slots.hold(mixes)
        self.release: Callable[[], object] = weakref.finalize(self, slots.release, mixes)


@dataclass(frozen=True)
class _Change:
    requests: Sequence[Request | None]
    held: Held
    again: bool


class Stream:
    """The texts of one compare: a row for each side, all with the same random numbers.

    ``token`` names it: who knows it may change it. Steps are made by one thread at a time; `change`
    may be called in any.
    """

    def __init__(
        self,
        service: Service,
        context: Context,
        requests: Sequence[Request | None],
        sampling: Sampling,
        seed: int,
    ) -> None:
        """NoFreeSlotError if the model has not enough slots for ``requests``."""
        self.token = secrets.token_urlsafe(32)
        self._service, self._context, self._requests = service, context, requests
        self._sampling, self._seed = sampling, seed
        self._steering = service.steering()
        self._held = Held(self._steering, requests)
        self._lock = threading.Lock()  # held while what follows changes
        self._change: _Change | None = None
        self._begun = 0  # steps
        self._closed = False
        self._writing: Writing | None = None
        self._ends: dict[int, End] = {}
        self._counts = [0] * len(requests)
        before = context.ids if context.continued else []
        self._decoders = [DecodeStream(before, True) for _ in requests]
        self._start = time.perf_counter()
        steered = [request is not None for request in requests]
        self._timings = [service.metrics.begun(each) for each in steered]
        for each in steered:
            service.metrics.prompt_tokens(len(context.ids), each)

    @property
    def sides(self) -> int:
        """How many texts it has."""
        return len(self._counts)

    @property
    def ended(self) -> bool:
        """Whether all texts have."""
        return len(self._ends) == self.sides

    def start(self) -> Start:
        """The first event."""
        return Start(
            stream=self.token, model=self._service.name, seed=self._seed,
            temperature=self._sampling.temperature, top_p=self._sampling.top_p,
            max_tokens=self._sampling.max_new_tokens, prompt_tokens=len(self._context.ids),
            emotions=told(self._steering, self._requests),
        )  # fmt: skip

    def done(self) -> Done:
        """The last event."""
        read, written = len(self._context.ids), sum(self._counts)
        usage = Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
        return Done(at=self._at(), usage=usage)

    def step(self) -> list[BaseModel]:
        """Write the next token of each text, in one forward; what is to be told of it."""
        with self._service.turns:
            events, number = self._begin()
            tokens = next(self._advanced(), {})
        at, is_last = self._at(), number + 1 == self._sampling.max_new_tokens
        for side in range(self.sides):
            if side in self._ends:
                continue
            if side in tokens:
                self._counts[side] += 1
                self._timings[side].token()
                text = self._decoders[side].step(self._context.decoder, tokens[side])
                if text:
                    events.append(Piece(side=side, step=number, at=at, text=text))
            if side not in tokens or is_last:
                reason = "length" if side in tokens else "stop"
                end = End(side=side, step=number, at=at, reason=reason, tokens=self._counts[side])
                self._ends[side] = end
                events.append(end)
        return events

    def change(self, requests: Sequence[Request | None], again: bool = True) -> int:
        """From the next step on, ``requests``; the number of that step, from 0.

        ``again``: the text so far is read again under them (`Decoding.change`); a model that keeps
        no cache does so without it too, as the event says. NotFoundError if there is no such step,
        NoFreeSlotError, SteeringError for another number of them; nothing changes then.
        """
        if len(requests) != self.sides:
            raise SteeringError(
                f"this stream has {self.sides} sides: give as many emotions, not {len(requests)}"
            )
        held = Held(self._steering, requests)
        try:
            with self._lock:
                if self._closed or self.ended or self._begun == self._sampling.max_new_tokens:
                    raise NotFoundError(_GONE)
                change = self._change
                again = again or (change is not None and change.again)
                self._change = _Change(requests, held, again)
                held = None if change is None else change.held  # nobody will see that one
                return self._begun
        finally:
            if held is not None:
                held.release()

    def close(self) -> None:
        """End it, and give its slots back; harmless the second time."""
        with self._lock:
            self._closed, change, self._change = True, self._change, None
        if change is not None:
            change.held.release()
        if self._writing is not None:
            self._writing.close()
        self._held.release()

    def _begin(self) -> tuple[list[BaseModel], int]:
        """Take what was asked for meanwhile; (the event of that, the number of this step)."""
        with self._lock:
            change, self._change = self._change, None
            number, self._begun = self._begun, self._begun + 1
        if change is None:
            return [], number
        # Before the first step everything is still to be read.
        again = change.again or self._writing is None or self._writing.reads_all
        if self._writing is not None:
            self._writing.change(change.requests, again)
        self._requests = change.requests
        self._held.release()
        self._held = change.held
        emotions = told(self._steering, change.requests)
        event = Changed(step=number, at=self._at(), emotions=emotions, again=again)
        return [event], number

    def _advanced(self) -> Writing:
        if self._writing is None:
            model, tokenizer = self._service.loaded()
            self._writing = Writing(
                model, tokenizer, [self._context.ids] * self.sides, self._sampling,
                seeds=[(self._seed,)] * self.sides, steering=self._steering,
                requests=self._requests, one_shape=True,
            )  # fmt: skip
        return self._writing

    def _at(self) -> float:
        return round(time.perf_counter() - self._start, 4)


class Streams:
    """The streams that run, by their tokens, and the thread that makes their steps in turn."""

    def __init__(self) -> None:
        self._running: dict[str, Stream] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compare")

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` gives, in the thread of the steps."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def get(self, token: str) -> Stream | None:
        """The stream of a token; None if there is none, or it has ended."""
        return self._running.get(token)

    def missing(self) -> NotFoundError:
        """What is said of a token that none has."""
        return NotFoundError(_GONE)

    def response(self, stream: Stream) -> StreamingResponse:
        """The response that writes ``stream``, which can be changed until that ends."""
        return _Events(self, stream)

    async def events(self, stream: Stream) -> AsyncIterator[bytes]:
        """All events, as they are sent; the last of all that can be sent is ``[DONE]``."""
        self._running[stream.token] = stream
        try:
            yield _encoded([stream.start()])
            while not stream.ended:
                if events := await self.run(stream.step):
                    yield _encoded(events)
            self._running.pop(stream.token, None)
            yield _encoded([stream.done()]) + _END
        except EmokernelError as error:
            yield _encoded([Failed(message=str(error))]) + _END
        except Exception:
            logger.exception("a stream failed")
            yield _encoded([Failed(message="the server failed; the log has it")]) + _END
        finally:
            await self.end(stream)

    async def end(self, stream: Stream) -> None:
        """Close ``stream`` when the step that is being made has been; the thread lives on."""
        self._running.pop(stream.token, None)
        await asyncio.shield(self.run(stream.close))


class _Events(StreamingResponse):
    """Events of a stream, which is closed however this ends."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        super().__init__(streams.events(stream), media_type="text/event-stream", headers=_HEADERS)
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send them."""
        try:
            await self.stream_response(send)
        finally:
            await self._streams.end(self._stream)


def _encoded(events: Sequence[BaseModel]) -> bytes:
    return "".join(f"data: {event.model_dump_json()}\n\n" for event in events).encode()
