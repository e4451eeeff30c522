"""From the tokens of one request to the pieces of text that a handler sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from typing import Any

from tokenizers.decoders import DecodeStream
from transformers.cli.serving import utils
from transformers.utils import logging

from emokernel.errors import EmokernelError
from emokernel.serve.engine.wishes import Wish

_LOG = logging.get_logger(__name__)


class UntilStop:
    """Passes text on up to the first of ``stops``, and keeps back what may be its beginning."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._kept = stops, ""
        self.reached = False

    def feed(self, text: str) -> str:
        """What of ``text``, and of what was kept back, is sure to stand before a stop."""
        text, self._kept = self._kept + text, ""
        cut = before_stop(text, self._stops)
        if len(cut) < len(text):
            self.reached = True
            return cut
        kept = max((_begun(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self) -> str:
        """What was kept back, at the end of the text."""
        kept, self._kept = self._kept, ""
        return kept


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of ``stops``; all of it where it has none."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class Pieces:
    """A queue of what a handler reads: pieces of text, at last None or a problem, which it raises.

    It has what handlers of transformers call of a queue.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.problem: EmokernelError | None = None

    def put(self, item: Any) -> None:
        """One more piece; None for the end."""
        self._queue.put_nowait(item)

    def fail(self, problem: EmokernelError) -> None:
        """Nothing more comes."""
        self.problem = problem
        self._queue.put_nowait(None)

    async def get(self) -> Any:
        """The next piece, as soon as there is one."""
        item = await self._queue.get()
        if item is None and self.problem is not None:
            raise self.problem
        return item

    def get_nowait(self) -> Any:
        """The next piece; asyncio.QueueEmpty if there is none, or a problem, which `get` raises."""
        if self.problem is not None and self._queue.qsize() == 1:
            raise asyncio.QueueEmpty
        return self._queue.get_nowait()


class Streamer:
    """Decodes what one request generates and queues it, as handlers of transformers read it.

    Its methods are called on the event loop. ``cancel`` ends the generation, also where no text has
    been read; it may be called at any time.
    """

    def __init__(
        self,
        processor: Any,
        wish: Wish,
        cancel: Callable[[Streamer], object],
        parser: Any = None,
        ends: Container[int] = (),
    ) -> None:
        """``parser``: transformers' ResponseParser of tool calls and reasoning, if the model has
        one. ``ends``: the tokens of which each ends an answer."""
        self.queue = Pieces()
        # Called when the answer ends by itself, or by a stop.
        self.when_whole: Callable[[], object] = lambda: None
        self.ids: list[int] = []
        self._tokenizer = getattr(processor, "tokenizer", processor)._tokenizer
        # A parser looks for special tokens.
        self._decoding = DecodeStream([], skip_special_tokens=parser is None)
        self._wish, self._cancel, self._parser = wish, cancel, parser
        self._until, self._ends = UntilStop(wish.stop), ends
        self._ended = False
        if parser is not None:
            self._pass_on(parser.initial_events)

    @property
    def total_tokens(self) -> int:
        """How many have been generated."""
        return len(self.ids)

    def take(self, ids: Sequence[int]) -> None:
        """Further tokens of the request."""
        for token in ids:
            if self._ended:
                return
            self.ids.append(token)
            if self._wish.timing is not None:
                self._wish.timing.token()
            text = self._decoding.step(self._tokenizer, token)
            if text is None:
                continue
            if self._parser is None:
                self._put(text)
            else:
                self._pass_on(self._parser.feed(text))

    def end(self) -> None:
        """There are no more."""
        if self._parser is not None and not self._ended:
            try:
                self._pass_on(self._parser.finalize()[1])
            except (ValueError, RuntimeError) as error:  # in the middle of a tool call
                _LOG.warning("the end of an answer cannot be parsed: %s", error)
        if not self._ended:
            self._ended = True
            if self.ids and self.ids[-1] in self._ends:
                self.when_whole()
            if rest := self._until.rest():
                self.queue.put(rest)
            self.queue.put(None)

    def fail(self, problem: EmokernelError) -> None:
        """Nothing more comes."""
        if not self._ended:
            self._ended = True
            self.queue.fail(problem)

    def cancel(self) -> None:
        """Nobody waits for it any more; harmless when it is over."""
        self._ended = True
        self._cancel(self)

    async def text(self) -> str:
        """All pieces of text, at their end; EmokernelError if something failed."""
        pieces = []
        while (piece := await self.queue.get()) is not None:
            pieces.append(piece)
        return "".join(pieces)

    def _pass_on(self, events: list[dict[str, Any]]) -> None:
        for item in utils.response_events_to_chunks(events):
            self._put(item)

    def _put(self, item: Any) -> None:
        if self._ended:
            return
        if type(item) is str:  # reasoning and tool calls are no text of the answer
            item = self._until.feed(item)
        if item:
            self.queue.put(item)
        if self._until.reached:
            self.when_whole()
            self.queue.put(None)
            self.cancel()
