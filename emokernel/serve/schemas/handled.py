"""From a checked body to the dictionary that transformers' handlers take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emokernel.serve.front.errors import BodyError, NotFoundError
from emokernel.serve.front.limits import Limits
from emokernel.serve.schemas.chat import AssistantMessage, ChatBody, Message, ToolMessage
from emokernel.serve.schemas.completions import CompletionBody
from emokernel.serve.schemas.parts import TextPart
from emokernel.serve.schemas.responses import (
    CallItem,
    CallOutputItem,
    MessageItem,
    ReasoningItem,
    ResponseBody,
)
from emokernel.serve.schemas.tools import Function

Body = ChatBody | CompletionBody | ResponseBody

# How long an answer becomes where nobody says, as with transformers' server.
_TOKENS = 1024


def check_model(body: Any, name: str) -> None:
    """NotFoundError for a body that asks for another model than the one of this name."""
    if body.model is not None and body.model != name:
        raise unknown_model(body.model, name)


def unknown_model(asked: str, name: str) -> NotFoundError:
    """What is said of another model than the one of this ``name``."""
    return NotFoundError(f"there is no model {asked!r} here: this server has {name!r}")


def to_handler(body: Body, limits: Limits | None = None, *, pictures: bool = False) -> dict:
    """What the handler of the body's route takes, without ``model`` and without the emotion.

    ``pictures``: whether the model sees any. BodyError for what goes beyond ``limits``, for
    pictures where it sees none, and for a conversation that cannot begin so.
    """
    limits = limits or Limits()
    name, tokens = _max_tokens(body)
    if tokens is not None and tokens > limits.max_tokens:
        raise BodyError(f"{name} must be at most {limits.max_tokens} here, got {tokens}", name)
    given: dict[str, Any] = {
        "stream": bool(body.stream),
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        name: min(_TOKENS, limits.max_tokens) if tokens is None else tokens,
    }
    if isinstance(body, CompletionBody):
        given["prompt"] = body.prompt if isinstance(body.prompt, str) else body.prompt[0]
        written = [given["prompt"]]
    else:
        field = "messages" if isinstance(body, ChatBody) else "input"
        turns = _chat(body) if isinstance(body, ChatBody) else _conversation(body)
        given[field] = turns
        if body.tool_choice != "none" and body.tools:
            given["tools"] = [_tool(tool) for tool in body.tools]
        _check_pictures(turns, field, pictures)
        written = _texts([turns, given.get("tools")])
    if not isinstance(body, ResponseBody) and body.stop is not None:
        given["stop"] = [body.stop] if isinstance(body.stop, str) else list(body.stop)
    _check_length(written, limits)
    return {name: value for name, value in given.items() if value is not None}


def _max_tokens(body: Body) -> tuple[str, int | None]:
    """The field that says how long the answer may become, and what it says."""
    if isinstance(body, ResponseBody):
        return "max_output_tokens", body.max_output_tokens
    newer = body.max_completion_tokens if isinstance(body, ChatBody) else None
    if newer is not None and body.max_tokens not in (None, newer):
        raise BodyError("max_tokens beside max_completion_tokens: give one of them", "max_tokens")
    return ("max_tokens", body.max_tokens) if newer is None else ("max_completion_tokens", newer)


def _chat(body: ChatBody) -> list[dict[str, Any]]:
    return [_message(message) for message in body.messages]


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": _role(message.role), "content": _content(message.content)}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": call.function.model_dump()}
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _role(role: str) -> str:
    """As chat templates know it."""
    return "system" if role == "developer" else role


def _content(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    return [_part(part) for part in content]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return part.model_dump(include={"type", "image_url"}, exclude_none=True)


def _conversation(body: ResponseBody) -> list[dict[str, Any]]:
    """Items of which the first has a role, by which the handler knows them for a conversation."""
    items = [] if isinstance(body.input, str) else body.input
    if isinstance(body.input, str):
        turns = [{"role": "user", "content": body.input}]
    elif all(not isinstance(item, _ITEMS) for item in items):
        turns = [{"role": "user", "content": _content(items)}]
    else:
        turns = [_item(item) for item in items if not isinstance(item, ReasoningItem)]
    if not turns or "role" not in turns[0]:
        raise BodyError("input must begin with a message: put what was asked first", "input")
    return _instructed(body.instructions, turns)


_ITEMS = (MessageItem, CallItem, CallOutputItem, ReasoningItem)


def _item(item: Any) -> dict[str, Any]:
    if isinstance(item, MessageItem):
        return {"role": _role(item.role), "content": _content(item.content)}
    if isinstance(item, CallItem):
        return item.model_dump(include={"type", "call_id", "name", "arguments"})
    if isinstance(item, CallOutputItem):
        return {"type": item.type, "call_id": item.call_id, "output": _content(item.output)}
    raise BodyError("input has a part outside of a message: put it into its content", "input")


def _instructed(instructions: str | None, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the instructions in front; the handler would put them in place of a system message."""
    if not instructions:
        return turns
    first = turns[0]
    if first["role"] != "system":
        return [{"role": "system", "content": instructions}, *turns]
    said = "\n\n".join([instructions, *_texts(first["content"])])
    return [{"role": "system", "content": said}, *turns[1:]]


def _tool(tool: Any) -> dict[str, Any]:
    if isinstance(tool, Function):
        return tool.model_dump(exclude_none=True, exclude={"strict"})
    function = tool.function.model_dump(exclude_none=True, exclude={"strict"})
    return {"type": "function", "function": function}


def _check_pictures(turns: Iterable[dict[str, Any]], field: str, pictures: bool) -> None:
    for turn in turns:
        parts = turn.get("content")
        for part in parts if isinstance(parts, list) else []:
            if part["type"] != "text" and not pictures:
                raise BodyError("this model sees no pictures: send texts alone", field)


def _texts(held: Any) -> list[str]:
    """All texts within, but for the names of fields, kinds and roles."""
    found: list[str] = []
    left = [held]
    while left:
        each = left.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            left.extend(value for name, value in each.items() if name not in ("type", "role"))
        elif isinstance(each, list):
            left.extend(reversed(each))
    return found


def _check_length(texts: Iterable[str], limits: Limits) -> None:
    length = sum(map(len, texts))
    if length > limits.prompt_characters:
        raise BodyError(
            f"the prompt has {length} characters, {limits.prompt_characters} at most: send less"
        )
