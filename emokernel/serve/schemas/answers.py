"""What the three routes answer, for the OpenAPI description: the types of OpenAI's own client."""

from __future__ import annotations

from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

_ANSWERS: dict[str, tuple[type[BaseModel], Any]] = {
    "/v1/chat/completions": (ChatCompletion, ChatCompletionChunk),
    "/v1/completions": (Completion, Completion),
    "/v1/responses": (Response, ResponseStreamEvent),
}


def answers(path: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of the route: a whole answer, or with "stream" a stream of its parts."""
    whole, part = _ANSWERS[path]
    name = getattr(part, "__name__", "ResponseStreamEvent")
    stream = {"schema": {"type": "string", "description": f"data: lines, each a {name}"}}
    return {
        200: {
            "model": whole,
            "description": "The answer; with stream, server-sent events",
            "content": {"text/event-stream": stream},
        }
    }
