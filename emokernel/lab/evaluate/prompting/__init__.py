"""How a model is asked for a state of the circumplex, or for an emotion, in words.

The prompts of arXiv 2504.14706 are not public but for their outline (role play, with arousal and
valence as numbers, in a system prompt); all wordings here are emokernel's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emokernel.affect import Coordinates
from emokernel.lab.evaluate.prompting.prompts import (
    CHAT,
    EMBEDDED,
    PLAIN,
    Prompting,
    read_lines,
    shipped,
)
from emokernel.lab.evaluate.prompting.refusals import is_refusal

__all__ = ["Prompting", "is_refusal", "prompting", "read_lines"]


def prompting(
    tokenizer: Any,
    *,
    embedded: bool,
    openings: Sequence[str],
    coordinates: Coordinates,
    questions: Sequence[str] | None = None,
    queries: Sequence[str] | None = None,
) -> Prompting:
    """The prompts that fit a model: its prefix tokens, its chat template, or plain text.

    ``questions`` and ``queries`` are the package's own unless given; for a model without a chat
    template they are beginnings to continue, ``openings`` unless given. ``coordinates`` say where
    the prefixes lie, and which numbers stand for an emotion. EmokernelError for an empty list or
    one that holds a text twice, and if the tokenizer lacks the tokens of the embedded model.
    """
    kind = EMBEDDED if embedded else CHAT if getattr(tokenizer, "chat_template", None) else PLAIN
    own = shipped("questions") if kind == CHAT else {"questions": openings, "queries": openings}
    return Prompting(
        kind,
        tokenizer,
        own["questions"] if questions is None else questions,
        own["queries"] if queries is None else queries,
        coordinates,
    )
