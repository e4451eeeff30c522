"""Tools that a model may call, and calls of them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from emokernel.errors import EmokernelError
from emokernel.serve.front.bodies import strict
from emokernel.serve.schemas.shared import Short, Strict

MOST_TOOLS = 128
# Characters of JSON: of the schema of one tool, and of what one call gives it.
_LARGEST = 2**16


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(schema))
    if size > _LARGEST:
        raise ValueError(f"it is {size} characters of JSON, {_LARGEST} at most: send less")
    return schema


def _object(arguments: str) -> str:
    """ValueError unless the text is that of a JSON object, as which templates read it."""
    try:
        strict(arguments.encode("utf-8", "surrogatepass"))
    except EmokernelError as error:
        reason = str(error).removeprefix("the body ")
        raise ValueError(f"the text {reason}") from error
    return arguments


ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Parameters = Annotated[dict[str, Any], AfterValidator(_small)]
Arguments = Annotated[str, Field(max_length=_LARGEST), AfterValidator(_object)]
Description = Annotated[str, Field(max_length=8192)]


class Function(Strict):
    """What a tool is called, does and takes; that arguments fit the schema is not promised."""

    name: ToolName
    description: Description | None = None
    parameters: Parameters | None = None
    strict: Literal[False] | None = None  # type: ignore[assignment]


class Tool(Strict):
    """A tool of a chat."""

    type: Literal["function"]
    function: Function


class FlatTool(Function):
    """A tool, as the Responses API has it."""

    type: Literal["function"]


class CalledFunction(Strict):
    """What was called, with what."""

    name: ToolName
    arguments: Arguments


class ToolCall(Strict):
    """A call that the model has made in an earlier turn."""

    id: Short
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Annotated[int, Field(ge=0, le=1000)] | None = None
