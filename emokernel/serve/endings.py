"""How answers end, where transformers' handlers say it otherwise than OpenAI's clients expect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from emokernel.serve.engine.texts import before_stop
from emokernel.serve.engine.wishes import Wish

_DATA, _COMPLETED = "data: ", '"type":"response.completed"'
# Streams of the two older endpoints are read up to this line.
_DONE = "data: [DONE]\n\n"


def chat_ended(made: Response, own: Wish) -> Response:
    """A chat's answer, or a completion's: without its stop; a stream with the line that ends it."""
    if isinstance(made, StreamingResponse):
        made.body_iterator = _with_end(made.body_iterator)
        return made
    answer = json.loads(bytes(made.body))
    message = answer["choices"][0].get("message")
    if own.stop and message and message.get("content"):  # which was parsed from tokens
        message["content"] = before_stop(message["content"], own.stop)
    return JSONResponse(answer)


def response_ended(made: Response, own: Wish) -> Response:
    """An answer of the Responses API: one that was cut off at its limit is incomplete."""
    if isinstance(made, StreamingResponse):
        made.body_iterator = _incomplete_events(made.body_iterator, own)
        return made
    answer = json.loads(bytes(made.body))
    return JSONResponse(answer if own.whole else _incomplete(answer))


def _incomplete(answer: dict[str, Any]) -> dict[str, Any]:
    reason = {"reason": "max_output_tokens"}
    return answer | {"status": "incomplete", "incomplete_details": reason}


async def _incomplete_events(chunks: Any, own: Wish) -> AsyncIterator[Any]:
    async with aclosing(chunks):
        async for chunk in chunks:
            if isinstance(chunk, str) and _COMPLETED in chunk and not own.whole:
                event = json.loads(chunk.removeprefix(_DATA))
                event["type"] = "response.incomplete"
                event["response"] = _incomplete(event["response"])
                chunk = f"{_DATA}{json.dumps(event)}\n\n"
            yield chunk


async def _with_end(chunks: Any) -> AsyncIterator[Any]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk
    yield _DONE
