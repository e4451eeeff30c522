"""Prompts of the embedded model, which follows no instructions: its prefix tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emokernel.affect import Affect, Coordinates
from emokernel.lab.evaluate.prompting.base import Prompt, Prompting
from emokernel.lab.evaluate.prompting.words import nearest
from emokernel.lab.extract.prompts import check_tokens
from emokernel.lab.measure.conditions import CONDITIONS, prefix

TEMPLATES = {"prefix": "<|{emotion}|>"}


class Embedded(Prompting):
    """The token of an emotion before the opening; of a state, that of the nearest emotion.

    How far a state is from the centre does not matter: a token has one intensity.
    """

    kind = "embedded"
    special_tokens = True
    wordings = TEMPLATES
    levels = (1.0,)

    def __init__(
        self,
        tokenizer: Any,
        questions: Sequence[str],
        queries: Sequence[str],
        coordinates: Coordinates,
    ) -> None:
        check_tokens([prefix(condition) for condition in CONDITIONS], tokenizer)
        super().__init__(tokenizer, questions, queries, coordinates)

    def word_of(self, state: Affect) -> str:
        return nearest(state, CONDITIONS, self.coordinates)

    def plain(self, query: str) -> Prompt:
        return "", query

    def of_state(self, template: str, state: Affect, query: str, intensity: float = 1.0) -> Prompt:
        self._check(template, intensity)
        return prefix(self.word_of(state)), query

    def of_emotion(
        self, template: str, emotion: str, query: str, intensity: float = 1.0
    ) -> Prompt | None:
        self._check(template, intensity)
        return (prefix(emotion), query) if emotion in CONDITIONS else None
