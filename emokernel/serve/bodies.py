"""Bodies of requests as strangers send them: read up to a limit, and JSON without its traps."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.vectors.formats.json_files import unique

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Images are sent within a body, as text that is a third longer.
MOST_BYTES = 64 * 2**20
# Levels of lists and objects within each other; schemas of tools have a dozen.
MOST_LEVELS = 64


class TooLargeError(EmokernelError):
    """A body of more than `MOST_BYTES`."""


async def read(scope: Message, receive: Receive, most: int | None = None) -> bytes | None:
    """The whole body; None if the client left before its end.

    TooLargeError for more than ``most`` bytes (`MOST_BYTES`): at once where its length is said.
    """
    most = MOST_BYTES if most is None else most
    said = dict(scope["headers"]).get(b"content-length", b"")
    size = int(said[:20]) if said.isdigit() else 0
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


def again(content: bytes, receive: Receive) -> Receive:
    """``receive`` as it was before the body was read."""
    messages = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


def parsed(content: bytes) -> dict[str, Any] | None:
    """The object of a body; None for what is none, of which the server says what is wrong.

    EmokernelError for JSON that means no one thing or cannot be carried out: not UTF-8, numbers
    that are none, a key given twice, too many levels.
    """
    try:
        body = json.loads(
            content, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=unique
        )
        _check_levels(body)
    except json.JSONDecodeError:
        return None
    except (ValueError, RecursionError) as error:
        reason = f"more than {MOST_LEVELS} levels" if isinstance(error, RecursionError) else error
        raise EmokernelError(f"the body is no JSON that can be served: {reason}") from error
    return body if isinstance(body, dict) else None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _check_levels(body: Any) -> None:
    """RecursionError for too many; a walk, since what it is for cannot be recursed into."""
    level = [body]
    for _ in range(MOST_LEVELS + 1):
        held = [each for each in level if isinstance(each, list | dict)]
        if not held:
            return
        level = [
            inner for each in held for inner in (each.values() if isinstance(each, dict) else each)
        ]
    raise RecursionError
