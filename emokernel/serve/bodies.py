"""Bodies of requests as strangers send them: JSON without its traps."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.vectors.formats.json_files import unique

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Levels of lists and objects within each other; schemas of tools have a dozen.
MOST_LEVELS = 64


async def read(receive: Receive) -> bytes | None:
    """The whole body; None if the client left before its end."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


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
