"""What an evaluation writes: cells, each a condition under which all its queries are answered."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.errors import EmokernelError, NoDoseError
from emokernel.lab.evaluate.prompting import Prompting
from emokernel.lab.evaluate.results import BOTH, PROMPT, UNSTEERED, VECTOR
from emokernel.lab.evaluate.settings import Settings
from emokernel.lab.measure.generation import Job
from emokernel.requests import Request
from emokernel.steering import Steering
from emokernel.vectors.calibration import key_of

STATES, EMOTIONS = "states", "emotions"
STRENGTH, DOSE = "strength", "dose"


@dataclass(frozen=True, eq=False)
class Cell:
    """One condition. ``name``: the emotion, or the angle of the state in degrees.

    ``prompts``: {query: (prefix, opening)}, see `Job`. In nats per token: ``divergence`` is what a
    dose asks for, ``moves`` what was measured of a strength or a dose.
    """

    experiment: str
    mode: str
    name: str
    prompts: Mapping[str, tuple[str, str]] = field(repr=False)
    request: Request | None = None
    template: str = ""
    intensity: float = 1.0
    law: str = ""
    by: str = ""
    strength: float = 0.0
    divergence: float = math.nan
    moves: float = math.nan

    @property
    def key(self) -> str:
        """What tells it from all others."""
        number = {
            STATES: f"intensity {self.intensity:.9g}",
            STRENGTH: f"strength {self.strength:.9g}",
            DOSE: f"dose {self.divergence:.9g}, strength {self.strength:.9g}",
        }.get(self.by or self.experiment, "")
        parts = (self.experiment, self.mode, self.template, self.law, self.name, number)
        return " | ".join(part for part in parts if part)

    def about(self) -> dict[str, object]:
        """What every text of it says about itself."""
        about = {"experiment": self.experiment, "mode": self.mode, "name": self.name}
        if self.template:
            about["template"] = self.template
        if self.experiment == STATES:
            about["intensity"] = self.intensity
        if self.by:
            about |= {"law": self.law, "by": self.by, "strength": self.strength}
        if self.by == DOSE:
            about["divergence"] = self.divergence
        return about

    def jobs(self) -> list[Job]:
        """One for each query."""
        return [
            Job(opening, self.request, prefix, query)
            for query, (prefix, opening) in self.prompts.items()
        ]


class Plan:
    """The cells of an evaluation of ``steering`` with ``prompting``.

    ``questions`` and ``queries`` are those that the states and the emotions are asked with,
    ``templates`` the prompts, ``joined`` those that are given together with vectors too.
    ``refused``: the states, and the emotions that are asked for at strengths, that no dose within
    the bounds of the calibration strengthens; they are written unsteered, so that they count as
    what they are.
    ``known``: the emotions that the judge knows; the others are asked for by vector at strengths
    alone. ``asked``: every (emotion, law) that is asked for at strengths; ``moved``: those of them
    that are not refused; ``dosed``: those that are not refused of what is asked for at doses.
    """

    def __init__(
        self,
        steering: Steering,
        prompting: Prompting,
        settings: Settings,
        known: Collection[str] | None = None,
    ) -> None:
        """``known``: all emotions unless given.

        What cannot be asked for is an error here, before anything is written.

        EmokernelError for unknown templates and too few questions or queries, SteeringError for
        emotions that are not calibrated and a mapping that cannot place the states.
        """
        self.steering, self.prompting, self.settings = steering, prompting, settings
        self.questions, self.queries = check_asked(prompting, settings)
        self.templates = _templates(prompting, settings)
        joined = self.templates if settings.joined is None else settings.joined
        self.joined = tuple(name for name in self.templates if name in joined)
        calibration = steering.calibration
        self.law = steering.defaults.law
        self.dose = steering.defaults.dose
        self.laws = [
            law
            for law in dict.fromkeys([self.law, *settings.laws])
            if calibration is None or key_of(law, self.dose) in calibration.strengths
        ]
        names = steering.vectors.names
        self.known = tuple(name for name in names if known is None or name in known)
        # At equal doses, and under other laws: the first so many of a fixed order.
        order = spread(self.known, prompting.coordinates)
        self.compared = order[: settings.compared]
        self.graded = names if settings.graded is None else order[: settings.graded]
        everything = [
            (emotion, law)
            for law in self.laws
            for emotion in (names if law == self.law else self.compared)
        ]
        possible = [
            (emotion, law)
            for emotion, law in everything
            if self._allowed(Request(emotion, 1.0, law, self.dose)) is not None
        ]
        curves = [self.law] if settings.compared is not None else self.laws
        self.asked = [pair for pair in everything if pair[1] in curves]
        self.moved = [pair for pair in possible if pair[1] in curves]
        self.dosed = [pair for pair in possible if pair[0] in self.compared]
        states = {f"{state.angle:.0f} degrees": _scaled(state, 1.0) for state in TWELVE_STATES}
        self.refused = (
            *(name for name, request in states.items() if self._allowed(request) is None),
            *dict.fromkeys(name for name, law in self.asked if (name, law) not in self.moved),
        )

    def unsteered(self) -> Cell:
        """All questions and queries, with nothing asked for."""
        prompts = {q: self.prompting.plain(q) for q in (*self.questions, *self.queries)}
        return Cell("", UNSTEERED, "", prompts)

    def states(self) -> Iterator[Cell]:
        """The twelve states by prompt, by vector and by both.

        By vector at all intensities; the first template has those of the ``prompted`` ones that it
        can express, the others 1.0. By both with the ``joined`` templates.
        """
        for state in TWELVE_STATES:
            name = f"{state.angle:.0f}"
            plain = {question: self.prompting.plain(question) for question in self.questions}
            steered = {i: self._allowed(_scaled(state, i)) for i in self.settings.intensities}
            for intensity, request in steered.items():
                yield Cell(STATES, VECTOR, name, plain, request, "", intensity)
            for template in self.templates:
                known = self.prompting.intensities(template)
                prompted = self.settings.intensities_of_prompts
                for intensity in prompted if template == self.templates[0] else (1.0,):
                    request = steered[intensity]
                    # Prompts that know no intensity are as they are beside a vector that does.
                    level = intensity if intensity in known else 1.0
                    asked = {
                        question: self.prompting.of_state(template, state, question, level)
                        for question in self.questions
                    }
                    cell = Cell(STATES, BOTH, name, asked, request, template, intensity)
                    if template in self.joined:
                        yield cell
                    if intensity in known:
                        yield replace(cell, mode=PROMPT, request=None)

    @property
    def texts(self) -> int:
        """How many texts there are to write, if all doses are reached."""
        of_query = self.settings.seeds * len(self.queries)
        asked = sum(len(self.strengths_of(emotion)) for emotion, _ in self.asked)
        asked += len(self.dosed) * len(self.settings.doses)
        asked += sum(1 for _ in self.emotions_by_prompt())
        states = sum(1 for _ in self.states()) * self.settings.seeds * len(self.questions)
        return len(self.unsteered().prompts) * self.settings.seeds + asked * of_query + states

    def emotions_by_prompt(self) -> Iterator[Cell]:
        """Every emotion that the judge knows by every template that can ask for it."""
        for template in self.templates:
            for emotion in self.known:
                asked = {
                    query: self.prompting.of_emotion(template, emotion, query)
                    for query in self.queries
                }
                if None not in asked.values():
                    yield Cell(EMOTIONS, PROMPT, emotion, asked, template=template)

    def emotions_by_strength(self, moves: Mapping[tuple[str, str, float], float]) -> Iterator[Cell]:
        """What is `asked` at its strengths; {(emotion, law, strength): divergence}, 0 for what is
        not there.
        """
        for emotion, law in self.asked:
            for strength in self.strengths_of(emotion):
                made = moves.get((emotion, law, strength), 0.0)
                yield self._emotion(emotion, law, STRENGTH, strength, moves=made)

    def strengths_of(self, emotion: str) -> tuple[float, ...]:
        """Those at which an emotion is written."""
        return self.settings.strengths if emotion in self.graded else (1.0,)

    def emotions_by_dose(
        self, strengths: Mapping[tuple[str, str], Mapping[float, tuple[float, float]]]
    ) -> Iterator[Cell]:
        """Every emotion under every law at every dose; {(emotion, law): {dose: (the strength for
        it, the divergence that this makes)}}.
        """
        for (emotion, law), by_dose in strengths.items():
            for dose, (strength, made) in by_dose.items():
                yield self._emotion(emotion, law, DOSE, strength, divergence=dose, moves=made)

    def _emotion(self, emotion: str, law: str, by: str, strength: float, **more: float) -> Cell:
        plain = {query: self.prompting.plain(query) for query in self.queries}
        request = self._allowed(Request(emotion, strength, law, self.dose))
        return Cell(
            EMOTIONS, VECTOR, emotion, plain, request, law=law, by=by, strength=strength, **more
        )

    def _allowed(self, request: Request) -> Request | None:
        """The request, or None if no dose within the bounds of the calibration strengthens it."""
        try:
            with self.steering.requests([request]):
                return request
        except NoDoseError:
            return None


def spread(names: Sequence[str], coordinates: Coordinates) -> tuple[str, ...]:
    """The names in an order whose beginnings lie all around the circle.

    Each is the one farthest from those before it by its angle, the first of equally far ones; those
    without a place in the table are last.
    """
    angles = {name: angle for name in names if (angle := coordinates.angle(name)) is not None}
    order: list[str] = []
    while angles.keys() - set(order):
        order.append(
            max(
                (name for name in angles if name not in order),
                key=lambda name: min(
                    (_apart(angles[name], angles[other]) for other in order), default=0.0
                ),
            )
        )
    return (*order, *(name for name in names if name not in angles))


def _apart(one: float, other: float) -> float:
    """The angle between two angles, 0..180 degrees."""
    return round(abs((one - other + 180.0) % 360.0 - 180.0), 6)


def check_asked(
    prompting: Prompting, settings: Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The questions and queries of an evaluation, each of which can be asked.

    EmokernelError for an unknown template, too few of either, and what the prompting refuses.
    """
    questions = _some(prompting.questions, settings.openings, "questions")
    queries = _some(prompting.queries, settings.openings, "queries")
    for template in settings.joined or ():
        prompting.intensities(template)
    for template in _templates(prompting, settings):
        prompting.intensities(template)
        prompting.of_state(template, TWELVE_STATES[0], questions[0])
    for query in (*questions, *queries):
        prompting.plain(query)
    return questions, queries


def _templates(prompting: Prompting, settings: Settings) -> tuple[str, ...]:
    return prompting.templates if settings.templates is None else settings.templates


def _scaled(state: Affect, intensity: float) -> Request:
    return Request(Affect(state.valence * intensity, state.arousal * intensity))


def _some(given: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    if len(given) < 2:
        raise EmokernelError(
            f"there are {len(given)} {what}, and intervals need two at least: give more"
        )
    return tuple(given[:count])
