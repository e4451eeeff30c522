"""What many clients ask a server, and whether an answer is one: mixed emotions over all endpoints.

Needs neither torch nor emokernel, so that what sends it is a light process.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

COMPLETIONS, CHAT, RESPONSES = "/v1/completions", "/v1/chat/completions", "/v1/responses"
ENDPOINTS = (COMPLETIONS, CHAT, RESPONSES)
PROMPTS = (
    "This morning I", "They told us that", "My brother came home and", "When the letter came,",
    "The old man at the door", "After the long winter we",
)  # fmt: skip
# Fields of bodies; the first two are not steered.
FEELINGS: tuple[dict[str, Any], ...] = (
    {},
    {"emotion": None},
    {"emotion": "joy"},
    {"emotion": "anger", "strength": 0.5},
    {"emotion": "fear", "strength": -0.5},
    {"emotion": "sadness", "law": "add", "strength": 0.5},
    {"emotion": "surprise", "positions": "generated"},
    {"emotion": "disgust", "positions": "last", "law": "preserve"},
    {"emotion": {"joy": 0.5, "surprise": 0.5}, "positions": "prompt"},
    {"emotion": {"sadness": 0.7, "fear": -0.2, "anger": 0.1}, "strength": 0.8},
    {"emotion": {"valence": 0.6, "arousal": 0.7}},
    {"valence": -0.7, "arousal": -0.4, "intensity": 0.8},
)
WARM = 0.8  # the temperature of what is not compared
TOO_LARGE = 5 * 2**20  # bytes, more than a server takes unless told


@dataclass(frozen=True)
class Ask:
    """A request: where to, its body, and what it is for those who count.

    ``key``: by what the text of an answer at temperature 0 is known, None for a warm one.
    """

    path: str
    body: dict[str, Any]
    key: tuple[str, int, int] | None

    @property
    def is_steered(self) -> bool:
        """Whether the answer is to be steered."""
        fields = self.body
        return fields.get("emotion") is not None or "valence" in fields

    @property
    def is_streamed(self) -> bool:
        """Whether the answer comes piece by piece."""
        return bool(self.body["stream"])


def ask(
    path: str, feeling: int, prompt: int, tokens: int, *, stream: bool, seed: int | None = None
) -> Ask:
    """A request for ``tokens`` tokens; warm with a ``seed``, else at temperature 0.

    The client says which "model" it means.
    """
    body: dict[str, Any] = {"stream": stream, "temperature": 0.0 if seed is None else WARM}
    if seed is not None:
        body["seed"] = seed
    text = PROMPTS[prompt]
    if path == COMPLETIONS:
        body |= {"prompt": text, "max_tokens": tokens}
    elif path == CHAT:
        body |= {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    else:
        body |= {"input": text, "max_output_tokens": tokens}
    key = (path, feeling, prompt) if seed is None else None
    return Ask(path, {**body, **FEELINGS[feeling]}, key)


def lone(tokens: int, endpoints: Iterable[str] = ENDPOINTS) -> Iterator[Ask]:
    """Every request at temperature 0 that `any_ask` can give, once."""
    for path in endpoints:
        for feeling in range(len(FEELINGS)):
            yield ask(path, feeling, feeling % len(PROMPTS), tokens, stream=False)


def any_ask(chance: random.Random, tokens: int, endpoints: tuple[str, ...] = ENDPOINTS) -> Ask:
    """One at random: half of them streamed, half at temperature 0."""
    path, feeling = chance.choice(endpoints), chance.randrange(len(FEELINGS))
    seed = chance.choice((None, chance.randrange(2**32)))
    return ask(
        path, feeling, feeling % len(PROMPTS), tokens, stream=chance.random() < 0.5, seed=seed
    )


def malformed(chance: random.Random) -> tuple[str, bytes, tuple[int, ...]]:
    """(Where to, a body that cannot be served, the statuses that say so)."""
    body = ask(COMPLETIONS, 2, 0, 4, stream=False).body
    path = chance.choice(ENDPOINTS)
    wrong: list[tuple[str, bytes, tuple[int, ...]]] = [
        (path, b"{", (400,)),
        (path, b"", (400,)),
        (path, b"[1, 2]", (400,)),
        (path, b'{"emotion": "joy", "emotion": "fear"}', (400,)),
        (path, b"[" * 5000 + b"]" * 5000, (400,)),
        (path, b"\xff\xfe{}", (400,)),
        (path, b'{"temperature": NaN}', (400,)),
        (COMPLETIONS, json.dumps({"model": "x" * 9}).encode(), (400,)),
    ]
    fields: list[dict[str, Any]] = [
        {"emotion": "joyy"}, {"emotion": 3}, {"emotion": ["joy"]}, {"emotion": {"joy": "much"}},
        {"strength": "1"}, {"strength": True}, {"law": "sub"}, {"positions": "first"},
        {"emotion": {"valence": 2, "arousal": 2}}, {"max_tokens": -1}, {"max_tokens": "many"},
        {"temperature": -3}, {"prompt": 7}, {"no_such_field": 1}, {"stream": "perhaps"},
    ]  # fmt: skip
    wrong += [(COMPLETIONS, json.dumps(body | each).encode(), (400,)) for each in fields]
    if chance.random() < 0.02:  # dear to send
        return path, b'{"prompt": "' + b"a" * TOO_LARGE + b'"}', (413,)
    return chance.choice(wrong)


@dataclass
class Answer:
    """What came for an `Ask`: its text, and ``wrong``, why it is none; "" if it is."""

    text: str = ""
    wrong: str = ""
    finish: str | None = None


def whole(path: str, content: bytes) -> Answer:
    """An answer that was not streamed, with status 200."""
    try:
        told = json.loads(content)
        if path == RESPONSES:
            if told["status"] not in ("completed", "incomplete"):
                return Answer(wrong=f"status {told['status']}")
            text, finish = told["output"][0]["content"][0]["text"], told["status"]
        else:
            choice = told["choices"][0]
            text = choice["text"] if path == COMPLETIONS else choice["message"]["content"]
            finish = choice["finish_reason"]
            if finish not in ("stop", "length"):
                return Answer(wrong=f"finish_reason {finish!r}")
        if not isinstance(text, str):
            return Answer(wrong=f"a text of {type(text).__name__}")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Answer(wrong=f"no {path}: {error!r} in {content[:200]!r}")
    return Answer(text, "", finish)


@dataclass
class Streamed:
    """Reads the lines of a streamed answer with status 200, one after the other."""

    path: str
    text: str = ""
    finish: str | None = None
    wrong: str = ""
    ended: bool = field(default=False)

    def line(self, line: str) -> bool:
        """Whether the ``line`` brings more of the text."""
        if not line.startswith("data:"):
            return False
        told = line[5:].strip()
        if told == "[DONE]":
            self.ended = True
            return False
        try:
            event = json.loads(told)
            piece = self._responses(event) if self.path == RESPONSES else self._choices(event)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            self.wrong = self.wrong or f"no event of {self.path}: {error!r} in {line[:200]!r}"
            return False
        self.text += piece
        return bool(piece)

    def answer(self) -> Answer:
        """What has come, when the stream has ended."""
        if not self.wrong and self.finish is None:
            self.wrong = "the stream ended before its text"
        return Answer(self.text, self.wrong, self.finish)

    def _choices(self, event: dict[str, Any]) -> str:
        if "error" in event:
            self.wrong = str(event["error"])
            return ""
        if not event["choices"]:  # that of the usage
            return ""
        choice = event["choices"][0]
        self.finish = choice.get("finish_reason") or self.finish
        piece = choice["text"] if self.path == COMPLETIONS else choice["delta"].get("content")
        return piece or ""

    def _responses(self, event: dict[str, Any]) -> str:
        kind = event["type"]
        if kind in ("error", "response.failed"):
            self.wrong = json.dumps(event)[:500]
        elif kind in ("response.completed", "response.incomplete"):
            self.finish = event["response"]["status"]
        return event["delta"] if kind == "response.output_text.delta" else ""
