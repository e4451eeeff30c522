"""Results as the report needs them: by judge, mode, emotion and law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from emokernel.lab.evaluate.results import (
    BOTH,
    PROMPT,
    UNSTEERED,
    VECTOR,
    Ceiling,
    Consistency,
    EmotionPoint,
    Interval,
    Measures,
    Results,
)

MODES = (PROMPT, VECTOR, BOTH)
ADD, PRESERVE = "add", "preserve"
NAMES = {
    UNSTEERED: "unsteered",
    PROMPT: "by prompt",
    VECTOR: "by vector",
    BOTH: "by prompt and vector",
}


class View:
    """Look-ups in ``results``. What was not measured is None or empty."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def judge(self) -> str:
        """The main judge, which is the first."""
        return next(iter(self.judges), "")

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """The names of all judges, in the order in which they come."""
        names = [str(judge["name"]) for judge in self.results.about.get("judges", ())]
        names += [row.judge for row in self.results.consistency]
        names += [name for point in self.results.emotions for name in point.measures.intended]
        return tuple(dict.fromkeys(names))

    def rows(self, judge: str, mode: str = "", template: str | None = None) -> list[Consistency]:
        """The consistency as ``judge`` reads it, in order of mode, template and intensity."""
        chosen = [
            row
            for row in self.results.consistency
            if row.judge == judge and mode in ("", row.mode) and template in (None, row.template)
        ]
        templates = list(dict.fromkeys(row.template for row in chosen))
        return sorted(
            chosen,
            key=lambda r: (MODES.index(r.mode), templates.index(r.template), r.intensity),
        )

    @cached_property
    def intensity(self) -> float:
        """The highest intensity, at which conditions are compared."""
        return max((row.intensity for row in self.results.consistency), default=math.nan)

    def by_intensity(self, mode: str) -> list[Consistency]:
        """A mode by intensity: of the templates with most intensities the best at the highest."""
        templates = dict.fromkeys(row.template for row in self.rows(self.judge, mode))
        curves = [self.rows(self.judge, mode, each) for each in templates]
        return max(
            curves, key=lambda rows: (len(rows), _or_least(rows[-1].cosine.mean)), default=[]
        )

    def full(self, judge: str = "") -> dict[str, Consistency]:
        """{mode: its best template at full intensity}, the template chosen by the main judge."""
        best: dict[str, Consistency] = {}
        for row in self.rows(self.judge):
            if row.intensity == self.intensity:
                rival = best.setdefault(row.mode, row)
                if _or_least(row.cosine.mean) > _or_least(rival.cosine.mean):
                    best[row.mode] = row
        return {
            mode: row
            for mode, chosen in best.items()
            for row in self.rows(judge or self.judge, mode, chosen.template)
            if row.intensity == self.intensity
        }

    def ceiling(self, judge: str = "") -> Ceiling | None:
        """The highest ceiling of a judge, of the main one unless given."""
        return max(
            (each for each in self.results.ceilings if each.judge == (judge or self.judge)),
            key=lambda each: _or_least(each.cosine.mean),
            default=None,
        )

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """The emotions that were asked for, in their order."""
        asked = [p.emotion for p in self.results.emotions if p.mode != UNSTEERED and p.emotion]
        return tuple(dict.fromkeys(asked))

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The emotions that the main judge has labels for; no other is in a mean over emotions."""
        read = {p.emotion for p in self.results.emotions if self.judge in p.measures.intended}
        return tuple(name for name in self.emotions if name in read)

    @cached_property
    def strongest_first(self) -> list[str]:
        """The emotions by the probability of the intended one by vector, unknown ones last."""

        def strength(name: str) -> float:
            value = self.intended(self.at(name, VECTOR))
            return _or_least(value.mean) if value else -math.inf

        return sorted(self.emotions, key=lambda name: -strength(name))

    @cached_property
    def laws(self) -> tuple[str, ...]:
        """The laws under which emotions were measured at strengths."""
        points = (point for point in self.results.emotions if point.by == "strength")
        return tuple(dict.fromkeys(point.law for point in points))

    @cached_property
    def law(self) -> str:
        """The law that the vectors bring, else the first that was measured."""
        vectors = self.results.about.get("vectors")
        own = vectors.get("law") if isinstance(vectors, Mapping) else None
        return own if own in self.laws else next(iter(self.laws), "")

    def anchors(self, key: str) -> Mapping[str, float]:
        """The similarity of unsteered answers to each other, see `emokernel.lab.evaluate.topic`:
        "topic" as the model reads them, "sentences" as an encoder does.
        """
        return self.results.about.get(key) or {}

    def curve(self, emotion: str, law: str) -> list[EmotionPoint]:
        """An emotion by strength under a law, the unsteered texts at strength 0."""
        points = [
            point
            for point in self.results.emotions
            if (point.emotion, point.mode, point.law, point.by)
            == (emotion, VECTOR, law, "strength")
        ]
        unsteered = self.at(emotion, UNSTEERED)
        if unsteered and points and not any(point.strength == 0 for point in points):
            points.append(unsteered)
        return sorted(points, key=lambda point: point.strength)

    @cached_property
    def emotion_template(self) -> str:
        """The template by which prompts ask for emotions: of those for most, the strongest."""
        values: dict[str, list[float]] = {}
        for point in self.results.emotions:
            intended = self.intended(point)
            if point.mode == PROMPT and intended:
                values.setdefault(point.template, []).append(_or_least(intended.mean))
        return max(values, key=lambda name: (len(values[name]), sum(values[name])), default="")

    def at(self, emotion: str, mode: str) -> EmotionPoint | None:
        """An emotion unsteered, by `emotion_template`, or by vector at strength 1.0."""
        if mode == VECTOR:
            curve = self.curve(emotion, self.law)
            return next((point for point in curve if math.isclose(point.strength, 1.0)), None)
        template = self.emotion_template if mode == PROMPT else ""
        return next(
            (
                point
                for point in self.results.emotions
                if (point.emotion, point.mode, point.template) == (emotion, mode, template)
            ),
            None,
        )

    def intended(self, point: EmotionPoint | None) -> Interval | None:
        """The probability of the intended emotion, by the main judge."""
        return point.measures.intended.get(self.judge) if point else None


def of_sentences(measures: Measures, name: str) -> float:
    """The mean of the field ``name`` of `Sentences`, NaN without an encoder."""
    return getattr(measures.sentences, name).mean if measures.sentences else math.nan


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
