"""What all sides of a compare read: a chat, or the beginning of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.chat import render
from emokernel.serve.emotions.schemas import CompareBody


@dataclass(frozen=True)
class Context:
    """Token ids, at least one; ``continued``: whether the text goes on where they end.

    ``decoder`` turns ids into text.
    """

    ids: list[int]
    continued: bool
    decoder: Any


def context_of(tokenizer: Any, body: CompareBody) -> Context:
    """What a model with that tokenizer reads; EmokernelError for what it cannot."""
    decoder = getattr(tokenizer, "backend_tokenizer", None)
    if decoder is None:
        raise EmokernelError(
            "this model's tokenizer cannot decode a text token by token: ask for a completion"
        )
    is_chat = bool(getattr(tokenizer, "chat_template", None))
    ids = _chat(tokenizer, body) if is_chat else _text(tokenizer, body)
    if not ids:
        raise EmokernelError("the prompt is no token for this model: write more")
    return Context(ids, not is_chat, decoder)


def _text(tokenizer: Any, body: CompareBody) -> list[int]:
    for name in ("messages", "system"):
        if getattr(body, name) is not None:
            raise EmokernelError(
                f"this model has no chat template, so it takes no {name}: give a prompt alone,"
                " which it continues"
            )
    return tokenizer(body.prompt)["input_ids"]


def _chat(tokenizer: Any, body: CompareBody) -> list[int]:
    messages = [(each.role, each.content) for each in body.messages or ()]
    if body.prompt is not None:
        messages = [("user", body.prompt)]
    if body.system is not None:
        messages = [("system", body.system), *messages]
    try:
        text = render(messages, tokenizer)
    except EmokernelError as error:
        raise EmokernelError(
            f"the chat template of this model {error}: send other messages"
        ) from error
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def length_of(model: Any, prompt: int, asked: int | None, usual: int) -> int:
    """How many tokens to write behind a ``prompt`` of so many: those asked for, or ``usual``.

    EmokernelError if the model has no room for them.
    """
    config = model.config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return asked or usual
    room = longest - prompt
    if room < max(asked or 1, 1):
        raise EmokernelError(
            f"the prompt has {prompt} tokens and the model reads {longest}: "
            + (f"ask for max_tokens of {room} at most" if room > 0 else "send a shorter one")
        )
    return asked or min(usual, room)
