"""The body of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from emokernel.serve.schemas.parts import Content, Text, Texts
from emokernel.serve.schemas.shared import (
    Ignored,
    MaxTokens,
    Noted,
    Off,
    On,
    Short,
    Stopped,
    Strict,
    by_field,
    union,
)
from emokernel.serve.schemas.tools import MOST_TOOLS, Tool, ToolCall

MOST_MESSAGES = 2048


_Calls = Annotated[list[ToolCall], Field(fail_fast=True, max_length=MOST_TOOLS)]


class SystemMessage(Strict):
    """How the model is to be."""

    role: Literal["system", "developer"]
    content: Texts
    name: Ignored = None


class UserMessage(Strict):
    """What a person says."""

    role: Literal["user"]
    content: Content
    name: Ignored = None


class AssistantMessage(Strict):
    """What the model has said or called, as clients send it back."""

    role: Literal["assistant"]
    content: Texts | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MOST_TOOLS)] | None = (
        None
    )
    name: Ignored = None
    reasoning_content: Annotated[Text | None, Field(description="Taken, without effect")] = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("it says nothing: give content or tool_calls")
        return self


class ToolMessage(Strict):
    """What a tool has answered."""

    role: Literal["tool"]
    content: Texts
    tool_call_id: Short
    name: Ignored = None


_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "tool",
}  # fmt: skip
_tell = by_field("role", *_ROLES)
Message = union(
    ("system", SystemMessage),
    ("user", UserMessage),
    ("assistant", AssistantMessage),
    ("tool", ToolMessage),
    tell=lambda value: _ROLES.get(_tell(value) or ""),
    says="an object whose role is one of " + ", ".join(_ROLES),
)


_Bounds = Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)
_Messages = Annotated[list[Message], _Bounds]


class PlainFormat(Strict):
    """Text without a promised form."""

    type: Literal["text"]


class ChatBody(Noted, Stopped):
    """A chat that the model goes on with."""

    messages: Annotated[
        list[Message], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)
    ]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: On | None = None

    response_format: PlainFormat | None = None
    logprobs: Off | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    audio: None = None
    function_call: Literal["none", "auto"] | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    prediction: None = None
    web_search_options: None = None
    moderation: None = None
