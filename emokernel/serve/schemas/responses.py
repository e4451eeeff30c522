"""The body of /v1/responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from emokernel.serve.schemas.chat import PlainFormat
from emokernel.serve.schemas.parts import MOST_PARTS, AnyPart, Content, Text, Texts
from emokernel.serve.schemas.shared import (
    MaxTokens,
    Noted,
    Off,
    On,
    Short,
    Strict,
    by_type,
    union,
)
from emokernel.serve.schemas.tools import MOST_TOOLS, Arguments, FlatTool, ToolName

MOST_ITEMS = 2048
_ITEMS = ("message", "function_call", "function_call_output", "reasoning")
_PARTS = ("text", "input_text", "output_text", "input_image", "image_url")


class _Item(Strict):
    """What the server of the API may have given it, and clients send back."""

    id: Short | None = None
    status: Short | None = None


class MessageItem(_Item):
    """What somebody says."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: Short | None = None


class CallItem(_Item):
    """A call of a tool."""

    type: Literal["function_call"]
    call_id: Short
    name: ToolName
    arguments: Arguments


class CallOutputItem(_Item):
    """What a tool has answered."""

    type: Literal["function_call_output"]
    call_id: Short
    output: Texts


class _Thought(Strict):
    type: Short
    text: Text


class ReasoningItem(_Item):
    """What the model has thought; taken, without effect."""

    type: Literal["reasoning"]
    summary: Annotated[list[_Thought], Field(fail_fast=True, max_length=MOST_PARTS)] | None = None
    content: Annotated[list[_Thought], Field(fail_fast=True, max_length=MOST_PARTS)] | None = None
    encrypted_content: None = None


def _kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    name = value.get("type", "message" if "role" in value else None)
    if name in _PARTS:
        return "part"
    return name if isinstance(name, str) and name in _ITEMS else None


Item = union(
    ("message", MessageItem),
    ("function_call", CallItem),
    ("function_call_output", CallOutputItem),
    ("reasoning", ReasoningItem),
    ("part", AnyPart),
    tell=_kind,
    says="a message, or an object whose type is one of " + ", ".join((*_ITEMS, *_PARTS)),
)


class PlainText(Strict):
    """Text without a promised form or length."""

    format: PlainFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Strict):
    """How much is thought before: as the model does."""

    effort: Literal["none"] | None = None
    summary: None = None
    generate_summary: None = None


class ResponseBody(Noted):
    """What the model answers."""

    input: union(  # type: ignore[valid-type]
        ("text", Annotated[Text, Field(min_length=1)]),
        ("list", Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=MOST_ITEMS)]),
        tell=by_type,
        says="a text or a list of items",
    )
    instructions: Text | None = None
    max_output_tokens: MaxTokens | None = None
    tools: Annotated[list[FlatTool], Field(fail_fast=True, max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: On | None = None

    background: Off | None = None
    include: Annotated[list[Any], Field(max_length=0)] | None = None
    max_tool_calls: None = None
    previous_response_id: None = None
    conversation: None = None
    prompt: None = None
    reasoning: Reasoning | None = None
    text: PlainText | None = None
    truncation: Literal["disabled"] | None = None
    moderation: None = None
