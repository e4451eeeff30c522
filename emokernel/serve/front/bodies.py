"""Bodies of requests as strangers send them: read up to a limit, and JSON without its traps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from emokernel.serve.front.errors import BodyError, TooLargeError
from emokernel.vectors.formats.json_files import unique

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Levels of lists and objects within each other; schemas of tools have a dozen.
MOST_LEVELS = 64
# Objects in one body, names in one object: the server does nothing else while it reads them.
MOST_OBJECTS, MOST_NAMES = 50_000, 1024


async def read(scope: Message, receive: Receive, most: int) -> bytes | None:
    """The whole body; None if the client left before its end.

    TooLargeError for more than ``most`` bytes: at once where its length is said.
    """
    size = said_length(scope)
    parts, counted, more = [], 0, True
    while more and max(size, counted) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        counted += len(parts[-1])
        more = message.get("more_body", False)
    if max(size, counted) > most:
        raise TooLargeError(f"the body is larger than {most} bytes: send less")
    return b"".join(parts)


async def swallow(receive: Receive, most: int, seconds: float) -> None:
    """Let what is left of a body come in and be forgotten, up to ``most`` bytes.

    A connection that is closed while its client still sends is reset, and the client never sees
    the answer that says why.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while most > 0:
                message = await receive()
                most -= max(1, len(message.get("body", b"")))
                if not message.get("more_body", False):
                    return


def said_length(scope: Message) -> int:
    """The bytes of the body as its head says; 0 where it does not say."""
    said = dict(scope["headers"]).get(b"content-length", b"")
    return int(said[:20]) if said.isdigit() else 0


def again(content: bytes, receive: Receive) -> Receive:
    """``receive`` as it was before the body was read."""
    messages = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


def strict(content: bytes) -> dict[str, Any]:
    """The object of a body.

    BodyError for what is none, and for JSON that means no one thing or cannot be carried out: not
    UTF-8, numbers that are none, a key given twice, half a character, too many levels, objects or
    names.
    """
    try:
        body = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_counting(),
        )
        _check_levels(body)
        if b"\\u" in content:
            _check_texts(body)
    except json.JSONDecodeError as error:
        raise BodyError(f"the body is no JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        reason = f"more than {MOST_LEVELS} levels" if isinstance(error, RecursionError) else error
        raise BodyError(f"the body is no JSON that can be served: {reason}") from error
    if not isinstance(body, dict):
        raise BodyError('the body is no JSON object: send {"name": value, ...}')
    return body


def _counting() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """What makes the objects of one body; ValueError for too many, or too many names in one."""
    counted = 0

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal counted
        counted += 1
        if counted > MOST_OBJECTS or len(pairs) > MOST_NAMES:
            raise ValueError(
                f"it has more than {MOST_OBJECTS} objects, or one of more than {MOST_NAMES} names"
            )
        return unique(pairs)

    return made


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _inner(held: Any) -> Iterator[Any]:
    return iter(held.values() if isinstance(held, dict) else held)


def _check_levels(body: Any) -> None:
    """RecursionError for too many; a walk, since what it is for cannot be recursed into."""
    level = [body]
    for _ in range(MOST_LEVELS + 1):
        held = [each for each in level if isinstance(each, list | dict)]
        if not held:
            return
        level = [inner for each in held for inner in _inner(each)]
    raise RecursionError


def _check_texts(body: Any) -> None:
    r"""ValueError for a lone surrogate, which "\ud800" is: no text that anybody can write on."""
    left = [body]
    while left:
        each = left.pop()
        if isinstance(each, str):
            _check_text(each)
        elif isinstance(each, list | dict):
            if isinstance(each, dict):
                left.extend(each)
            left.extend(_inner(each))


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        lone = ord(text[error.start])
        raise ValueError(f"\\u{lone:04x} without its other half is no character") from error
