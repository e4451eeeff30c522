"""The body of /v1/completions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emokernel.serve.schemas.parts import Text
from emokernel.serve.schemas.shared import MaxTokens, Off, One, Stopped, by_type, union

_Prompt = Annotated[Text, Field(min_length=1)]


class CompletionBody(Stopped):
    """A text that the model goes on with."""

    prompt: union(  # type: ignore[valid-type]
        ("text", _Prompt),
        ("list", Annotated[list[_Prompt], Field(fail_fast=True, min_length=1, max_length=1)]),
        tell=by_type,
        says="a text, or a list of one",
    )
    max_tokens: MaxTokens | None = None

    best_of: One | None = None
    echo: Off | None = None
    logprobs: None = None
    suffix: Literal[""] | None = None
