"""Conversations through a tokenizer's chat template, in the form that loses nothing of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import EmokernelError
from emokernel.extras import need

# (role, what is said)
Message = tuple[str, str]

# What a template raises, beside an error of its own, over a form of content it does not know.
_FAILURES = (TypeError, ValueError, AttributeError, LookupError)
# The names under which templates can be told not to think, and the opening of a thought.
_THINKING = ("enable_thinking", "thinking")
_THOUGHT = re.compile(r"<think>\s*$")


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """The conversation up to where the answer begins, without thinking before it.

    The contents are given as strings, or as parts where the template wants those. EmokernelError,
    with the fault as its text, if the template fails or loses any of them in every form.
    """
    failures = (need("jinja2").TemplateError, *_FAILURES)
    failure = ""
    for conversation in _forms(messages):
        try:
            text = _apply(tokenizer, conversation)
        except failures as error:
            failure = failure or f"fails ({error})"
            continue
        lost = _lost(messages, text)
        if lost is None and not _spelled_out(conversation, text):
            return _THOUGHT.sub("<think>\n\n</think>\n\n", text)
        failure = failure or f"leaves the {lost} message out"
    raise EmokernelError(failure)


def _forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """All contents as strings, as parts, and as parts but for the system message."""
    roles = {role for role, _ in messages}
    for in_parts in ((), roles, *([roles - {"system"}] if "system" in roles else [])):
        yield [
            {
                "role": role,
                "content": [{"type": "text", "text": said}] if role in in_parts else said,
            }
            for role, said in messages
        ]


def _apply(tokenizer: Tokenizer, conversation: list[dict[str, Any]]) -> str:
    template = tokenizer.get_chat_template()
    known = {name: False for name in _THINKING if re.search(rf"\b{name}\b", template)}
    return tokenizer.apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=True, **known
    )


def _lost(messages: Sequence[Message], text: str) -> str | None:
    """The role of a message that the text does not hold but for white space; None if all is there.

    Each is looked for in what the longer ones left, so that a query which is part of the
    instruction is not found there.
    """
    rest = " ".join(text.split())
    for role, said in sorted(messages, key=lambda message: -len(message[1])):
        if not said.strip():
            continue
        before, middle, after = rest.partition(" ".join(said.split()))
        if not middle:
            return role
        rest = f"{before}\0{after}"
    return None


def _spelled_out(conversation: list[dict[str, Any]], text: str) -> bool:
    """Whether the template wrote the list of parts itself into the text, brackets and all."""
    contents = [each["content"] for each in conversation if not isinstance(each["content"], str)]
    return any(
        written in text
        for content in contents
        for written in (str(content), json.dumps(content, ensure_ascii=False))
    )
