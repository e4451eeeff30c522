"""What a model is asked, and how: by its chat template, in plain text, or by the prefix tokens of
the embedded one.

All wordings, in ``wordings.json``, are emokernel's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.extract.labelled_texts import normalised
from emokernel.lab.extract.prompts import check_tokens, instructed, question
from emokernel.lab.measure.conditions import CONDITIONS, prefix

# (prefix, opening), see `emokernel.lab.measure.generation.Job`.
Prompt = tuple[str, str]

CHAT, PLAIN, EMBEDDED = "chat", "plain", "embedded"
# Intensity: how it is said before an adjective, and before the word "feeling".
DEGREES: dict[float, tuple[str, str]] = {
    0.25: ("slightly", "a slight"),
    0.5: ("moderately", "a moderate"),
    0.75: ("strongly", "a strong"),
    1.0: ("extremely", "an extreme"),
}


@cache
def shipped(name: str) -> dict[str, Any]:
    """The package's own texts of this name.

    "questions": lists of "questions" (10) and "queries" (50), and "notes" on where they are from.
    "wordings": {kind: {name of a template: its text}}, and their "source".
    """
    text = (files("emokernel.lab.evaluate.prompting") / f"{name}.json").read_text("utf-8")
    return json.loads(text)


def read_lines(path: str | PathLike[str]) -> tuple[str, ...]:
    """The texts of a file in UTF-8: a JSON list if it is called .json, else one on each line.

    Empty lines are skipped. Raises FileNotFoundError, or EmokernelError naming the file if it is
    not as described, holds no text, or holds one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of questions or openings: {path}")
    try:
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmokernelError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    if path.suffix.lower() != ".json":
        return checked([line for line in map(str.strip, content.split("\n")) if line], str(path))
    try:
        lines = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EmokernelError(f"{path} is no JSON: {error}") from error
    if not isinstance(lines, list):
        raise EmokernelError(f'{path} holds no JSON list: write ["a text", "another"]')
    return checked([line.strip() if isinstance(line, str) else line for line in lines], str(path))


def checked(texts: Sequence[str], source: str) -> tuple[str, ...]:
    """The texts, if there are any, none is empty and none is there twice but for case and spacing.

    EmokernelError otherwise, which names ``source``.
    """
    if isinstance(texts, str) or not all(isinstance(one, str) and one.strip() for one in texts):
        raise EmokernelError(f"{source}: a list of texts is needed, none of them empty")
    if not texts:
        raise EmokernelError(f"{source}: there is no text: give at least one")
    seen: set[str] = set()
    for text in texts:
        if normalised(text) in seen:
            raise EmokernelError(f"{source}: {text!r} occurs more than once; keep one")
        seen.add(normalised(text))
    return tuple(texts)


class Prompting:
    """Prompts for one model; made by `emokernel.lab.evaluate.prompting.prompting`.

    ``kind``: chat (an instruction as the system message, or before the query where the template
    takes none), plain (a framing, an empty line and the opening, which the model continues) or
    embedded (the token of an emotion before the opening). ``wordings``: {name of a template: its
    text}, with the fields "{arousal}" and "{valence}", "{feels}", or "{emotion}"; a word or token
    stands for a direction, how far a state is from the centre the values alone say. ``levels``:
    the intensities that they can ask for, ascending. ``special_tokens``: whether the tokenizer
    has still to add its own. ``questions`` are those of the consistency experiment, ``queries``
    those of the experiment on strengths; a model without a chat template continues them.
    """

    def __init__(
        self,
        kind: str,
        tokenizer: Any,
        questions: Sequence[str],
        queries: Sequence[str],
        coordinates: Coordinates,
    ) -> None:
        self.kind, self.tokenizer, self.coordinates = kind, tokenizer, coordinates
        self.questions = checked(questions, "questions")
        self.queries = checked(queries, "queries")
        self.wordings: dict[str, str] = shipped("wordings")[kind]
        self.levels = (1.0,) if kind == EMBEDDED else tuple(DEGREES)
        self.special_tokens = kind != CHAT
        if kind == EMBEDDED:
            check_tokens([prefix(condition) for condition in CONDITIONS], tokenizer)

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

    def plain(self, query: str) -> Prompt:
        """The query with nothing asked for."""
        return (question(query, self.tokenizer), "") if self.kind == CHAT else ("", query)

    def of_state(self, template: str, state: Affect, query: str, intensity: float = 1.0) -> Prompt:
        """The query, and a state asked for.

        EmokernelError for an unknown template, an intensity that it cannot ask for, or the neutral
        centre where it asks by a direction.
        """
        self._check(template, intensity)
        if self._by_values(template):
            return self._valued(template, state, query, intensity)
        return self._named(template, self.word_of(state), query, intensity)

    def of_emotion(
        self, template: str, emotion: str, query: str, intensity: float = 1.0
    ) -> Prompt | None:
        """The query, and an emotion asked for by its name; None if the template knows no names,
        or not this one.

        EmokernelError for an unknown template or an intensity that it cannot ask for.
        """
        self._check(template, intensity)
        unknown = self.kind == EMBEDDED and emotion not in CONDITIONS
        if unknown or self._by_values(template):
            return None
        return self._named(template, emotion, query, intensity)

    def word_of(self, state: Affect) -> str:
        """The word or token that stands for a state; EmokernelError for the neutral centre."""
        if self.kind == EMBEDDED:
            return nearest(state, CONDITIONS, self.coordinates)
        return adjective_of(state)

    def describe(self) -> dict[str, Any]:
        """The wordings, and the words that stand for the twelve states, as plain data."""
        described = {
            "kind": self.kind,
            "templates": dict(self.wordings),
            "intensities": {name: list(self.levels) for name in self.templates},
            "words": {f"{state.angle:.0f}": self.word_of(state) for state in TWELVE_STATES},
        }
        if self.kind != EMBEDDED:
            described["source"] = shipped("wordings")["source"]
        return described

    def _by_values(self, template: str) -> bool:
        return "{arousal}" in self.wordings[template]

    def _valued(self, template: str, point: Affect, query: str, intensity: float) -> Prompt:
        # Two decimals, and no sign before 0.00.
        arousal, valence = (
            f"{round(intensity * x, 2) + 0.0:.2f}" for x in (point.arousal, point.valence)
        )
        return self._filled(template, query, arousal=arousal, valence=valence)

    def _named(self, template: str, emotion: str, query: str, intensity: float) -> Prompt:
        return self._filled(template, query, emotion=emotion, feels=feels(emotion, intensity))

    def _filled(self, template: str, query: str, **fields: str) -> Prompt:
        wording = self.wordings[template].format(**fields)
        if self.kind == CHAT:
            return instructed(wording, query, self.tokenizer), ""
        return (wording if self.kind == EMBEDDED else f"{wording}\n\n"), query

    def _check(self, template: str, intensity: float) -> None:
        known = self.intensities(template)
        if intensity not in known:
            raise EmokernelError(
                f"the template {template!r} cannot ask for the intensity {intensity:g}: choose one"
                f" of {', '.join(f'{one:g}' for one in known)}"
            )


@cache
def adjectives() -> tuple[str, ...]:
    """Russell's adjectives, in the order of the table "russell".

    The labels with an angle of their own (not those of GoEmotions, which have that of a term),
    without the anchors of the article's abstract, which are nouns.
    """
    facts = Coordinates.named("russell").facts
    return tuple(
        label
        for label, fact in facts.items()
        if "term" not in fact and fact["attested"] != "anchor"
    )


def adjective_of(state: Affect) -> str:
    """The one of `adjectives` whose angle is nearest to that of a state."""
    return nearest(state, adjectives(), Coordinates.named("russell"))


def nearest(state: Affect, names: Iterable[str], coordinates: Coordinates) -> str:
    """The one of ``names`` whose angle in a table is nearest; of equally near ones the first.

    Names without an angle are passed over. EmokernelError if none has one, or for a state at the
    neutral centre, which has no angle.
    """
    if state.radius < 1e-9:
        raise EmokernelError(
            "no word is nearest to the neutral centre: ask for a state with a direction, or for"
            " nothing"
        )
    apart = {
        name: abs((angle - state.angle + 180.0) % 360.0 - 180.0)
        for name in names
        if (angle := coordinates.angle(name)) is not None
    }
    if not apart:
        raise EmokernelError(
            f"the table {coordinates.name!r} has no place for any emotion that can be asked for:"
            " choose another table, or extend it"
        )
    # Rounded, so that at 210 degrees the words at 209 and 211 are equally near.
    return min(apart, key=lambda name: round(apart[name], 6))


def feels(emotion: str, intensity: float) -> str:
    """What is said of a person: "feels slightly tense", "has a slight feeling of fear".

    ``intensity``: one of `DEGREES`. An emotion that is none of `adjectives` is taken for a noun.
    """
    adverb, adjective = DEGREES[intensity]
    if emotion in adjectives():
        return f"feels {adverb} {emotion}"
    return f"has {adjective} feeling of {emotion}"
