"""Prompts in words: an instruction for chat models, a framing for models that continue text."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from emokernel.affect import Affect
from emokernel.lab.evaluate.prompting.base import Prompt, Prompting
from emokernel.lab.evaluate.prompting.words import DEGREES, adjective_of, feels
from emokernel.lab.extract.prompts import instructed, question

SOURCE = "emokernel's own wordings; the prompt template of arXiv 2504.14706 is not public"

CHAT = {
    "values": (
        "Play the role of a person whose emotional state is given by two numbers, arousal and"
        " valence, each between -1 and 1. Arousal says how active the person feels: -1 is"
        " completely passive, 1 is completely active. Valence says how pleasant the state is: -1 is"
        " completely unpleasant, 1 is completely pleasant. On both scales 0 is neutral. The"
        " person's state now: arousal {arousal}, valence {valence}. Answer in the first person as"
        " this person would, in a few sentences, and do not mention the numbers."
    ),
    "values-actor": (
        "You are an actor. The mood of your character is a point on Russell's circumplex of affect,"
        " written as (arousal, valence): ({arousal}, {valence}). Arousal runs from -1, the lowest"
        " energy, to 1, the highest; valence runs from -1, the most unpleasant, to 1, the most"
        " pleasant; (0, 0) is neutral. Reply as that character, let the mood be heard in every"
        " sentence, and do not mention the point."
    ),
    "word": (
        "Play the role of a person who {feels}. Answer in the first person as this person would, in"
        " a few sentences."
    ),
    "word-actor": (
        "You are an actor, and your character {feels}. Reply as that character, and let it be heard"
        " in every sentence."
    ),
}

PLAIN = {
    "values": (
        "The emotional state of the person who speaks here is given by two numbers between -1 and"
        " 1. Arousal, from -1 (completely passive) to 1 (completely active): {arousal}. Valence,"
        " from -1 (completely unpleasant) to 1 (completely pleasant): {valence}. On both scales 0"
        " is neutral. What the person says:"
    ),
    "values-actor": (
        "The mood of the character in this scene is a point on Russell's circumplex of affect,"
        " written as (arousal, valence): ({arousal}, {valence}). Arousal runs from -1, the lowest"
        " energy, to 1, the highest; valence runs from -1, the most unpleasant, to 1, the most"
        " pleasant; (0, 0) is neutral. The mood can be heard in every sentence of the character."
    ),
    "word": "The person who speaks here {feels}. What the person says:",
    "word-actor": (
        "The character in this scene {feels}, and it can be heard in every sentence of the"
        " character."
    ),
}


class _Worded(Prompting):
    """Templates with "{arousal}" and "{valence}", or with "{feels}".

    A word stands for a direction: how far a state is from the centre, the values alone say.
    """

    levels = tuple(DEGREES)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"source": SOURCE}

    def word_of(self, state: Affect) -> str:
        return adjective_of(state)

    def of_state(self, template: str, state: Affect, query: str, intensity: float = 1.0) -> Prompt:
        self._check(template, intensity)
        if self._by_word(template):
            return self._by_feeling(template, self.word_of(state), query, intensity)
        return self._by_values(template, state, query, intensity)

    def of_emotion(
        self, template: str, emotion: str, query: str, intensity: float = 1.0
    ) -> Prompt | None:
        self._check(template, intensity)
        if self._by_word(template):
            return self._by_feeling(template, emotion, query, intensity)
        point = self.coordinates.get(emotion)
        return None if point is None else self._by_values(template, point, query, intensity)

    def _by_word(self, template: str) -> bool:
        return "{feels}" in self.wordings[template]

    def _by_feeling(self, template: str, emotion: str, query: str, intensity: float) -> Prompt:
        wording = self.wordings[template]
        return self._put(wording.format(feels=feels(emotion, intensity)), query)

    def _by_values(self, template: str, point: Affect, query: str, intensity: float) -> Prompt:
        arousal, valence = (_number(intensity * x) for x in (point.arousal, point.valence))
        wording = self.wordings[template]
        return self._put(wording.format(arousal=arousal, valence=valence), query)

    @abstractmethod
    def _put(self, wording: str, query: str) -> Prompt:
        """A wording whose fields are filled in, and the query behind it."""


class Chat(_Worded):
    """An instruction and the query, through the tokenizer's chat template.

    The instruction is the system message; where the template takes none it stands before the query
    in the user's turn.
    """

    kind = "chat"
    special_tokens = False
    wordings = CHAT

    def plain(self, query: str) -> Prompt:
        return question(query, self.tokenizer), ""

    def _put(self, wording: str, query: str) -> Prompt:
        return instructed(wording, query, self.tokenizer), ""


class Plain(_Worded):
    """A framing, an empty line, and the opening, which the model continues."""

    kind = "plain"
    special_tokens = True
    wordings = PLAIN

    def plain(self, query: str) -> Prompt:
        return "", query

    def _put(self, wording: str, query: str) -> Prompt:
        return f"{wording}\n\n", query


def _number(value: float) -> str:
    """Two decimals, and no sign before 0.00."""
    return f"{round(value, 2) + 0.0:.2f}"
