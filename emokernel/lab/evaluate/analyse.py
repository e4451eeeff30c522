"""From the texts of an evaluation to its results; every number here follows from the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from emokernel.affect import TWELVE_STATES
from emokernel.lab.evaluate.agreement import agreement
from emokernel.lab.evaluate.consistency import Points, consistency, cosines
from emokernel.lab.evaluate.plan import DOSE, EMOTIONS, STATES, STRENGTH, Cell, Plan
from emokernel.lab.evaluate.prompting import is_refusal
from emokernel.lab.evaluate.results import (
    BOTH,
    PROMPT,
    UNSTEERED,
    VECTOR,
    Consistency,
    EmotionPoint,
    Interval,
    JudgeAgreement,
    LawDose,
    Measures,
    Monotone,
    Sample,
)
from emokernel.lab.evaluate.writing import Reader, Record
from emokernel.lab.measure.fluency import distinct_n, exponential, repetition
from emokernel.lab.measure.intervals import mean_interval, rank_correlation

_SAMPLES = 3
_MODES = (VECTOR, PROMPT, BOTH)
# Emotions are monotone if they are between strengths 0 and 1, of which there have to be so many.
_LEAST_STRENGTHS = 4


@dataclass(frozen=True)
class Judged:
    """A judge as the analysis sees it: its reader and the point of each of its labels."""

    reader: Reader
    points: Points

    @property
    def name(self) -> str:
        """Of the judge."""
        return self.reader.judge.name


@dataclass(frozen=True)
class Texts:
    """The records of an evaluation: unsteered ones, and those of every cell.

    moved: {(emotion, law, strength): divergence in nats per token}. realised: {(emotion, law,
    dose): the divergence that the strength found for the dose makes}.
    """

    plain: Sequence[Record]
    cells: Mapping[Cell, Sequence[Record]]
    moved: Mapping[tuple[str, str, float], float]
    realised: Mapping[tuple[str, str, float], float]


class Analysis:
    """Results of texts; the first of ``judges`` is the main one."""

    def __init__(self, texts: Texts, judges: Sequence[Judged], plan: Plan) -> None:
        self._cells, self._texts, self._judges = texts.cells, texts, judges
        self._names = plan.steering.vectors.names
        self._plain = {
            STATES: _Plain([r for r in texts.plain if r["query"] in set(plan.questions)]),
            EMOTIONS: _Plain([r for r in texts.plain if r["query"] in set(plan.queries)]),
        }

    def consistency(self) -> list[Consistency]:
        """The twelve states, for every way they were asked for and every judge."""
        groups: dict[tuple[str, str, float], list[Cell]] = {}
        for cell in self._cells:
            if cell.experiment == STATES:
                groups.setdefault((cell.mode, cell.template, cell.intensity), []).append(cell)
        order = sorted(groups, key=lambda way: (_MODES.index(way[0]), way[1], way[2]))
        return [self._consistency(way, groups[way], j) for way in order for j in self._judges]

    def _consistency(
        self, way: tuple[str, str, float], cells: Sequence[Cell], judged: Judged
    ) -> Consistency:
        angles = [f"{state.angle:.0f}" for state in TWELVE_STATES]
        rows = [(angles.index(cell.name), record) for cell in cells for record in self._cells[cell]]
        plain = self._plain[STATES]
        return consistency(
            [record["top"][judged.name] for _, record in rows],
            [state for state, _ in rows],
            [record["query"] for _, record in rows],
            judged.points,
            mode=way[0],
            template=way[1],
            intensity=way[2],
            judge=judged.name,
            refusals=_refusals([record for _, record in rows]),
            perplexity=_perplexity([record for _, record in rows]) / plain.perplexity,
            distinct_3=mean(_distinct(self._cells[cell], 3) for cell in cells) / plain.distinct_3,
        )

    def advantages(self) -> dict[str, Interval]:
        """{template: mean cosine by vector less that by prompt}, both at intensity 1.

        By the main judge; paired by state, query and seed.
        """
        judged = self._judges[0]
        states = {f"{state.angle:.0f}": state for state in TWELVE_STATES}
        by_template: dict[str, list[float]] = {}
        queries: list[str] = []
        for cell, records in self._cells.items():
            if cell.experiment == STATES and cell.intensity == 1 and cell.mode != BOTH:
                tops = [record["top"][judged.name] for record in records]
                values = cosines(tops, states[cell.name], judged.points).tolist()
                by_template.setdefault(cell.template, []).extend(values)
                if cell.mode == VECTOR:
                    queries += [record["query"] for record in records]
        steered = np.array(by_template.pop(""))
        return {
            template: Interval(*mean_interval(steered - np.array(values), queries))
            for template, values in by_template.items()
        }

    def emotions(self) -> list[EmotionPoint]:
        """Every emotion unsteered, by prompt, and by vector at every strength and dose."""
        plain = self._plain[EMOTIONS]
        unsteered = [
            EmotionPoint(name, UNSTEERED, "", "", 0.0, 0.0, self._measures(plain.records, name))
            for name in self._names
        ]
        return unsteered + [
            EmotionPoint(
                cell.name,
                cell.mode,
                cell.law,
                cell.by,
                cell.strength,
                self._divergence(cell),
                self._measures(self._cells[cell], cell.name),
                cell.template,
            )
            for cell in self._cells
            if cell.experiment == EMOTIONS
        ]

    def _divergence(self, cell: Cell) -> float:
        """Of a strength and of a dose as measured; 0 for what is not moved, NaN for prompts."""
        if cell.by == DOSE:
            return self._texts.realised[cell.name, cell.law, cell.divergence]
        if cell.by == STRENGTH:
            return self._texts.moved.get((cell.name, cell.law, cell.strength), 0.0)
        return math.nan

    def _measures(self, records: Sequence[Record], emotion: str) -> Measures:
        plain = self._plain[EMOTIONS]
        perplexity = _perplexity(records)
        queries = [record["query"] for record in records]

        def interval(values: Iterable[float]) -> Interval:
            return Interval(*mean_interval(list(values), queries))

        intended = {
            judged.name: interval(_intended(record, judged, emotion) for record in records)
            for judged in self._judges
            if emotion in judged.reader.emotions
        }
        distinct = {str(n): _distinct(records, n) for n in (1, 2, 3)}
        return Measures(
            intended=intended,
            perplexity=perplexity,
            perplexity_ratio=perplexity / plain.perplexity,
            distinct=distinct,
            distinct_3_ratio=distinct["3"] / plain.distinct_3,
            repetition=repetition([record["answer"] for record in records]),
            to_unsteered=interval(record["to_unsteered"] for record in records),
            to_query=interval(record["to_query"] for record in records),
            refusals=_refusals(records),
            empty=_empty(records),
            texts=len(records),
        )

    def laws(self) -> list[LawDose]:
        """Both laws at equal doses, over the emotions that reach the dose under both."""
        by_dose: dict[float, dict[str, dict[str, Cell]]] = {}
        for cell in self._cells:
            if cell.by == DOSE:
                by_dose.setdefault(cell.divergence, {}).setdefault(cell.name, {})[cell.law] = cell
        results = []
        for divergence in sorted(by_dose):
            pairs = {
                e: cells
                for e, cells in by_dose[divergence].items()
                if {"preserve", "add"} <= {*cells}
            }
            pairs = {e: cells for e, cells in pairs.items() if e in self._judges[0].reader.emotions}
            if pairs:
                results.append(self._law_dose(divergence, pairs))
        return results

    def _law_dose(self, divergence: float, pairs: Mapping[str, Mapping[str, Cell]]) -> LawDose:
        judged, plain = self._judges[0], self._plain[EMOTIONS]
        laws = {
            law: [self._cells[cells[law]] for cells in pairs.values()]
            for law in ("preserve", "add")
        }
        rows = {law: [r for records in texts for r in records] for law, texts in laws.items()}
        queries = [record["query"] for record in rows["add"]]
        intended = {
            law: [_intended(r, judged, r["name"]) for r in records] for law, records in rows.items()
        }

        def difference(values: Mapping[str, Sequence[float]]) -> Interval:
            paired = [p - a for p, a in zip(values["preserve"], values["add"], strict=True)]
            return Interval(*mean_interval(paired, queries))

        return LawDose(
            divergence=divergence,
            realised={
                law: mean(self._texts.realised[emotion, law, divergence] for emotion in pairs)
                for law in rows
            },
            emotions=list(pairs),
            intended={law: mean(values) for law, values in intended.items()},
            perplexity_ratio={
                law: _perplexity(records) / plain.perplexity for law, records in rows.items()
            },
            intended_difference=difference(intended),
            surprise_difference=_surprise_difference(rows["preserve"], rows["add"]),
            adherence_difference=difference(
                {law: [record["to_unsteered"] for record in texts] for law, texts in rows.items()}
            ),
        )

    def monotone(self, points: Sequence[EmotionPoint]) -> list[Monotone]:
        """Whether more strength is more emotion, for every emotion and law, by the main judge."""
        judge = self._judges[0].name
        start = {p.emotion: p for p in points if p.mode == UNSTEERED}
        curves: dict[tuple[str, str], list[EmotionPoint]] = {}
        for point in points:
            if point.by == STRENGTH and 0 < point.strength <= 1:
                curve = curves.setdefault((point.emotion, point.law), [start[point.emotion]])
                curve.append(point)
        return [
            Monotone(
                emotion,
                law,
                rank_correlation(
                    [p.strength for p in curve], [p.measures.intended[judge].mean for p in curve]
                ),
            )
            for (emotion, law), curve in curves.items()
            if len(curve) >= _LEAST_STRENGTHS
        ]

    def agreement(self) -> list[JudgeAgreement]:
        """The first two judges on all texts of the twelve states; none with one judge."""
        if len(self._judges) < 2:
            return []
        states = {f"{state.angle:.0f}": state for state in TWELVE_STATES}
        tops: list[list[str | None]] = [[], []]
        measured: list[list[np.ndarray]] = [[], []]
        for cell, records in self._cells.items():
            if cell.experiment == STATES:
                for number, judged in enumerate(self._judges[:2]):
                    labels = [record["top"][judged.name] for record in records]
                    tops[number] += labels
                    measured[number].append(cosines(labels, states[cell.name], judged.points))
        one, other = self._judges[:2]
        return [
            agreement(
                (one.name, other.name),
                tops,
                [np.concatenate(parts) for parts in measured],
                (one.points, other.points),
            )
        ]

    def samples(self, law: str) -> list[Sample]:
        """The same queries and seed unsteered and under every emotion, by prompt and by vector.

        Prompts by the first template that asks for emotions, vectors at strength 1.0.
        """
        plain = self._plain[EMOTIONS].records
        queries = list(dict.fromkeys(record["query"] for record in plain))
        step = max(1, len(queries) // _SAMPLES)
        texts = {query: {UNSTEERED: ""} for query in queries[::step][:_SAMPLES]}
        for record in plain:
            if record["query"] in texts and record["seed"] == 0:
                texts[record["query"]][UNSTEERED] = _text(record)
        prompts = [cell.template for cell in self._cells if _by_prompt(cell)]
        shown = [
            cell
            for cell in self._cells
            if (_by_prompt(cell) and cell.template == prompts[0]) or _is_full(cell, law)
        ]
        for cell in sorted(shown, key=lambda cell: (cell.name, cell.mode)):
            for record in self._cells[cell]:
                if record["query"] in texts and record["seed"] == 0:
                    texts[record["query"]][f"{cell.name}, by {cell.mode}"] = _text(record)
        return [Sample(query, 0, answers) for query, answers in texts.items()]


class _Plain:
    """Unsteered texts, what others are compared with."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.perplexity = _perplexity(records)
        self.distinct_3 = _distinct(records, 3)


def _by_prompt(cell: Cell) -> bool:
    return cell.experiment == EMOTIONS and cell.mode == PROMPT


def _is_full(cell: Cell, law: str) -> bool:
    return cell.by == STRENGTH and cell.strength == 1 and cell.law == law


def _intended(record: Record, judged: Judged, emotion: str) -> float:
    values = record["intended"][judged.name]
    return values[emotion] if isinstance(values, dict) else values


def _perplexity(records: Sequence[Record]) -> float:
    """Of all answers together; infinite where nothing was written."""
    tokens = sum(record["tokens"] for record in records)
    return exponential(sum(r["nats"] for r in records) / tokens) if tokens else math.inf


def _surprise_difference(one: Sequence[Record], other: Sequence[Record]) -> Interval:
    """Nats per token, mean over the pairs of answers of which neither is empty; NaN without any."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a["tokens"] and b["tokens"]]
    if not pairs:
        return Interval(math.nan, math.nan, math.nan)
    differences = [a["nats"] / a["tokens"] - b["nats"] / b["tokens"] for a, b in pairs]
    return Interval(*mean_interval(differences, [a["query"] for a, _ in pairs]))


def _distinct(records: Sequence[Record], n: int) -> float:
    """0 for answers that are all too short."""
    return distinct_n([record["answer"] for record in records], n)


def _refusals(records: Sequence[Record]) -> float:
    return sum(is_refusal(record["answer"]) for record in records) / len(records)


def _empty(records: Sequence[Record]) -> float:
    return sum(not record["answer"].strip() for record in records) / len(records)


def _text(record: Record) -> str:
    return record["opening"] + record["answer"]
