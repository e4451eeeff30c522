"""What the three routes answer, for the OpenAPI description: the types of OpenAI's own client."""

from __future__ import annotations

from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

# Of each the whole answer, and what the events of a stream are; the schemas of the last would be
# two megabytes.
_ANSWERS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatCompletion, "ChatCompletionChunk as JSON; last [DONE]"),
    "/v1/completions": (Completion, "Completion as JSON; last [DONE]"),
    "/v1/responses": (Response, "ResponseStreamEvent as JSON"),
}


def answers(path: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of the route: a whole answer, or with "stream" a stream of its parts."""
    whole, part = _ANSWERS[path]
    data = {"type": "string", "description": f"A {part}"}
    event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        200: {
            "model": whole,
            "description": "The answer; with stream, server-sent events",
            "content": {"text/event-stream": {"itemSchema": event}},
        }
    }
