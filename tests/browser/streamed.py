"""The streams of a scripted server, let out step by step by the test that reads them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from emokernel.serve.emotions.schemas import Changed, Done, End, Failed, Piece, Start, Usage

# How often a stream looks whether its next step may come.
_LOOK_S = 0.004
_END = "data: [DONE]\n\n"
# (Side, step, the feeling asked for or None) -> what the token of that step adds to the text.
Words = Callable[[int, int, Any], str]


class Gate:
    """How many steps may come: all of them, unless it is held."""

    def __init__(self, held: bool = False) -> None:
        self._lock, self._left, self._held = threading.Lock(), 0, held

    def hold(self) -> None:
        """Nothing more comes but what is let out."""
        with self._lock:
            self._held, self._left = True, 0

    def let(self, steps: int) -> None:
        """Let so many steps out."""
        with self._lock:
            self._left += steps

    def open(self) -> None:
        """Everything comes, as fast as it can."""
        with self._lock:
            self._held = False

    def pass_one(self) -> bool:
        """Whether one may come now, which has then."""
        with self._lock:
            if not self._held:
                return True
            if not self._left:
                return False
            self._left -= 1
            return True


class TornError(Exception):
    """The connection of a stream ends in the midst."""


class Stream(Gate):
    """One streamed answer: its request's ``body``, and what becomes of it."""

    def __init__(self, body: dict[str, Any], held: bool) -> None:
        super().__init__(held)
        self.body = body
        self.left = False  # the client has, before the end
        self.ended = False
        self._fate: str | None = None
        self._message = ""

    def fail(self, message: str) -> None:
        """An error event next, then the end."""
        self._message, self._fate = message, "fail"

    def cut(self) -> None:
        """The end next, which says nothing of being one."""
        self._fate = "cut"

    def tear(self) -> None:
        """The connection breaks."""
        self._fate = "tear"

    async def _passed(self) -> bool:
        """Wait for the next step; False if there is none, TornError if the connection breaks."""
        while self._fate is None:
            if self.pass_one():
                return True
            await asyncio.sleep(_LOOK_S)
        if self._fate == "tear":
            raise TornError
        return False

    async def sent(self) -> AsyncIterator[str]:
        """What is sent, to its end or until the client leaves."""
        try:
            async for each in self._sent():
                yield each
            self.ended = True
        finally:
            self.left = not self.ended and self._fate is None

    def _sent(self) -> AsyncIterator[str]:
        raise NotImplementedError


class Compare(Stream):
    """A compare: ``changes`` are the bodies by which it was changed, ``texts`` what it said.

    ``asked``: what each side asks for now. ``words`` and ``length`` say what its texts are.
    """

    def __init__(
        self,
        body: dict[str, Any],
        held: bool,
        *,
        token: str,
        model: str,
        words: Words,
        length: int,
        told: Callable[[Sequence[Any]], list[Any]],
    ) -> None:
        super().__init__(body, held)
        self.token, self._model, self._words, self._told = token, model, words, told
        self._longest = body.get("max_tokens") or 256
        self._length = min(length, self._longest)
        self.asked: list[Any] = body["emotions"]
        self.texts = [""] * len(self.asked)
        self.changes: list[dict[str, Any]] = []
        self.steps = 0
        self.reads_all = False  # at each step, as a model without a cache does
        # Of each change that holds: the first step that it holds for.
        self.changed_at: list[int] = []
        self._next: list[Any] | None = None
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    def change(self, body: dict[str, Any]) -> int | None:
        """From the next step on; the number of that, None if there is none."""
        with self._lock:
            if self.ended or self.left or self.steps >= self._length:
                return None
            self.changes.append(body)
            self._next, self._again = body["emotions"], body.get("again", True)
            return self.steps

    async def _sent(self) -> AsyncIterator[str]:
        yield self._start()
        while self.steps < self._length and await self._passed():
            yield "".join(map(_event, self._step()))
        if self._fate == "fail":
            yield _event(Failed(message=self._message)) + _END
        elif self._fate is None:
            count = len(self.texts) * self._length
            usage = Usage(prompt_tokens=9, completion_tokens=count, total_tokens=count + 9)
            yield _event(Done(at=self._at(), usage=usage)) + _END

    def _start(self) -> str:
        return _event(
            Start(
                stream=self.token, model=self._model, seed=self.body.get("seed") or 0,
                temperature=self.body.get("temperature", 0.8), top_p=self.body.get("top_p", 0.9),
                max_tokens=self._longest, prompt_tokens=9, emotions=self._told(self.asked),
            )
        )  # fmt: skip

    def _step(self) -> list[Any]:
        events: list[Any] = []
        with self._lock:
            number, self.steps = self.steps, self.steps + 1
            change, self._next = self._next, None
        if change is not None:
            self.asked = change
            self.changed_at.append(number)
            told, again = self._told(change), self._again or self.reads_all
            events.append(Changed(step=number, at=self._at(), emotions=told, again=again))
        for side, asked in enumerate(self.asked):
            text = self._words(side, number, asked)
            self.texts[side] += text
            events.append(Piece(side=side, step=number, at=self._at(), text=text))
            if number + 1 == self._length:
                reason = "length" if self._length == self._longest else "stop"
                events.append(
                    End(side=side, step=number, at=self._at(), reason=reason, tokens=number + 1)
                )
        return events

    def _at(self) -> float:
        return round(time.perf_counter() - self._began, 4)


class Chunks(Stream):
    """An answer of the endpoints that OpenAI has, in pieces; ``text`` is what it said."""

    def __init__(
        self, body: dict[str, Any], held: bool, *, model: str, words: Words, length: int, chat: bool
    ) -> None:
        super().__init__(body, held)
        self._model, self._words, self._chat = model, words, chat
        self._longest = body.get("max_tokens") or body.get("max_completion_tokens") or 256
        self._length = min(length, self._longest)
        self.asked = body.get("emotion")
        self.text, self.steps = "", 0

    async def _sent(self) -> AsyncIterator[str]:
        if self._chat:
            yield self._chunk({"role": "assistant", "content": ""}, "", None)
        while self.steps < self._length and await self._passed():
            text = self._words(0, self.steps, self.asked)
            self.steps, self.text = self.steps + 1, self.text + text
            yield self._chunk({"content": text}, text, None)
        if self._fate == "fail":
            error = {"message": self._message, "type": "server_error", "param": None, "code": 500}
            yield f"data: {json.dumps({'error': error})}\n\n" + _END
        elif self._fate is None:
            yield self._chunk({}, "", "length" if self._length == self._longest else "stop") + _END

    def _chunk(self, delta: dict[str, str], text: str, reason: str | None) -> str:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
        choice |= {"delta": delta} if self._chat else {"text": text}
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        told = {"id": "one", "object": kind, "created": 1, "model": self._model}
        return f"data: {json.dumps(told | {'choices': [choice]})}\n\n"


def _event(event: Any) -> str:
    return f"data: {event.model_dump_json()}\n\n"
