"""What all ways of asking a model for an emotion have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.prompting.questions import checked

# (prefix, opening), see `emokernel.lab.measure.generation.Job`.
Prompt = tuple[str, str]


class Prompting(ABC):
    """Prompts for one model; made by `emokernel.lab.evaluate.prompting.prompting`.

    ``kind``: chat, plain or embedded. ``wordings``: {name of a template: its text}. ``levels``: the
    intensities that they can ask for, ascending. ``special_tokens``: whether the tokenizer has
    still to add its own. ``questions`` are those of the consistency experiment, ``queries`` those
    of the experiment on strengths; a model without a chat template continues them.
    """

    kind: str
    special_tokens: bool
    wordings: Mapping[str, str]
    levels: tuple[float, ...]

    def __init__(
        self,
        tokenizer: Any,
        questions: Sequence[str],
        queries: Sequence[str],
        coordinates: Coordinates,
    ) -> None:
        self.tokenizer = tokenizer
        self.questions = checked(questions, "questions")
        self.queries = checked(queries, "queries")
        self.coordinates = coordinates

    @property
    def templates(self) -> tuple[str, ...]:
        """The names of the templates, the main one first."""
        return tuple(self.wordings)

    def intensities(self, template: str) -> tuple[float, ...]:
        """The intensities that a template can ask for; EmokernelError for an unknown one."""
        if template not in self.wordings:
            raise EmokernelError(
                f"there is no template {template!r} for prompts of the kind {self.kind!r}: choose"
                f" one of {', '.join(self.wordings)}"
            )
        return self.levels

    @abstractmethod
    def plain(self, query: str) -> Prompt:
        """The query with nothing asked for."""

    @abstractmethod
    def of_state(self, template: str, state: Affect, query: str, intensity: float = 1.0) -> Prompt:
        """The query, and a state asked for.

        EmokernelError for an unknown template, an intensity that it cannot ask for, or the neutral
        centre where it asks by a direction.
        """

    @abstractmethod
    def of_emotion(
        self, template: str, emotion: str, query: str, intensity: float = 1.0
    ) -> Prompt | None:
        """The query, and an emotion asked for; None if the template has no way to ask for it.

        EmokernelError for an unknown template or an intensity that it cannot ask for.
        """

    @abstractmethod
    def word_of(self, state: Affect) -> str:
        """The word or token that stands for a state; EmokernelError for the neutral centre."""

    def describe(self) -> dict[str, Any]:
        """The wordings, and the words that stand for the twelve states, as plain data."""
        return {
            "kind": self.kind,
            "templates": dict(self.wordings),
            "intensities": {name: list(self.intensities(name)) for name in self.templates},
            "words": {f"{state.angle:.0f}": self.word_of(state) for state in TWELVE_STATES},
        }

    def _check(self, template: str, intensity: float) -> None:
        known = self.intensities(template)
        if intensity not in known:
            raise EmokernelError(
                f"the template {template!r} cannot ask for the intensity {intensity:g}: choose one"
                f" of {', '.join(f'{one:g}' for one in known)}"
            )
