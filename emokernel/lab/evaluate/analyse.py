"""From the texts of an evaluation to its results; every number here follows from the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from emokernel.affect import TWELVE_STATES
from emokernel.lab.evaluate import together
from emokernel.lab.evaluate.consistency import Reader, agreement, consistency, cosines
from emokernel.lab.evaluate.judged import intended, judged
from emokernel.lab.evaluate.plan import DOSE, EMOTIONS, STATES, STRENGTH, Cell, Plan
from emokernel.lab.evaluate.results import (
    BOTH,
    PROMPT,
    UNSTEERED,
    VECTOR,
    Consistency,
    EmotionPoint,
    Interval,
    JudgeAgreement,
    JudgedEmotion,
    LawDose,
    Measures,
    Monotone,
    Sample,
)
from emokernel.lab.evaluate.writing import Record
from emokernel.lab.measure.fluency import looping, repetition
from emokernel.lab.measure.intervals import mean_interval, rank_correlation

_SAMPLES = 3
_MODES = (VECTOR, PROMPT, BOTH)
_LAWS = ("preserve", "add")
# Emotions are monotone if they are between strengths 0 and 1, of which there have to be so many.
_LEAST_STRENGTHS = 4
_STATES = {f"{state.angle:.0f}": state for state in TWELVE_STATES}


class Analysis:
    """Results of the texts of an evaluation; the first of ``readers`` is the main judge."""

    def __init__(
        self,
        plain: Sequence[Record],
        cells: Mapping[Cell, Sequence[Record]],
        readers: Sequence[Reader],
        plan: Plan,
    ) -> None:
        """``plain``: the unsteered texts, ``cells``: those of every cell."""
        self._cells, self._readers, self._main = cells, readers, readers[0]
        self._names = plan.steering.vectors.names
        self._of_questions = together.Plain([r for r in plain if r["query"] in set(plan.questions)])
        self._of_queries = together.Plain([r for r in plain if r["query"] in set(plan.queries)])

    def consistency(self) -> list[Consistency]:
        """The twelve states, for every way they were asked for and every judge."""
        groups: dict[tuple[str, str, float], list[Cell]] = {}
        for cell in self._cells:
            if cell.experiment == STATES:
                groups.setdefault((cell.mode, cell.template, cell.intensity), []).append(cell)
        order = sorted(groups, key=lambda way: (_MODES.index(way[0]), way[1], way[2]))
        return [self._consistency(way, groups[way], r) for way in order for r in self._readers]

    def _consistency(
        self, way: tuple[str, str, float], cells: Sequence[Cell], reader: Reader
    ) -> Consistency:
        angles, plain = list(_STATES), self._of_questions
        records = [record for cell in cells for record in self._cells[cell]]
        return consistency(
            [record["top"][reader.name] for record in records],
            [angles.index(cell.name) for cell in cells for _ in self._cells[cell]],
            [record["query"] for record in records],
            reader.points,
            mode=way[0],
            template=way[1],
            intensity=way[2],
            judge=reader.name,
            refusals=together.refusals(records),
            perplexity=together.perplexity(records) / plain.perplexity,
            distinct_3=mean(together.distinct(self._cells[cell], 3) for cell in cells)
            / plain.distinct_3,
        )

    def advantages(self) -> dict[str, Interval]:
        """{template: mean cosine by vector less that by prompt}, both at intensity 1.

        By the main judge; paired by state, query and seed.
        """
        by_template: dict[str, list[float]] = {}
        queries: list[str] = []
        for cell, records in self._cells.items():
            if cell.experiment == STATES and cell.intensity == 1 and cell.mode != BOTH:
                by_template.setdefault(cell.template, []).extend(self._cosines(cell, self._main))
                if cell.mode == VECTOR:
                    queries += [record["query"] for record in records]
        steered = by_template.pop("")
        return {
            template: together.paired(steered, values, queries)
            for template, values in by_template.items()
        }

    def intended(self, law: str) -> Interval:
        """Probability of the intended emotion by the main judge at strength 1.0 under ``law``: the
        mean over the texts of all emotions that it knows.
        """
        records = [record for cell in self._steered(law) for record in self._cells[cell]]
        values = [intended(record, self._main, record["name"]) for record in records]
        return Interval(*mean_interval(values, [record["query"] for record in records]))

    def kept(self, law: str) -> Interval | None:
        """`Sentences.kept` of the same texts but of emotions that no dose moves; None without
        sentences or texts.
        """
        moved = [cell for cell in self._steered(law) if cell.moves]
        records = [record for cell in moved for record in self._cells[cell]]
        sentences = self._of_queries.sentences(records)
        return sentences and sentences.kept

    def _steered(self, law: str) -> list[Cell]:
        """Of the emotions that the main judge knows, those by vector at strength 1.0."""
        return [cell for cell in self._at_one(law) if cell.name in self._main.emotions]

    def _at_one(self, law: str) -> list[Cell]:
        """All emotions by vector at strength 1.0."""
        return [c for c in self._cells if (c.by, c.strength, c.law) == (STRENGTH, 1, law)]

    def _cosines(self, cell: Cell, reader: Reader) -> list[float]:
        tops = [record["top"][reader.name] for record in self._cells[cell]]
        return cosines(tops, _STATES[cell.name], reader.points).tolist()

    def emotions(self) -> list[EmotionPoint]:
        """Every emotion unsteered, by prompt, and by vector at every strength and dose."""
        plain = self._of_queries.records
        unsteered = [
            EmotionPoint(name, UNSTEERED, "", "", 0.0, 0.0, self._measures(plain, name))
            for name in self._names
        ]
        return unsteered + [
            EmotionPoint(
                cell.name, cell.mode, cell.law, cell.by, cell.strength, cell.moves,
                self._measures(records, cell.name), cell.template,
            )
            for cell, records in self._cells.items()
            if cell.experiment == EMOTIONS
        ]  # fmt: skip

    def _measures(self, records: Sequence[Record], emotion: str) -> Measures:
        plain, perplexity = self._of_queries, together.perplexity(records)
        queries = [record["query"] for record in records]
        answers = [record["answer"] for record in records]
        knowing = [reader for reader in self._readers if emotion in reader.emotions]
        labels = {reader.name: reader.named(emotion) for reader in knowing}

        def interval(values: Iterable[float]) -> Interval:
            return Interval(*mean_interval(list(values), queries))

        distinct = {str(n): together.distinct(records, n) for n in (1, 2, 3)}
        return Measures(
            intended={
                reader.name: interval(intended(record, reader, emotion) for record in records)
                for reader in knowing
            },
            top={
                name: interval(record["top"][name] in own for record in records)
                for name, own in labels.items()
            },
            perplexity=perplexity,
            perplexity_ratio=perplexity / plain.perplexity,
            distinct=distinct,
            distinct_3_ratio=distinct["3"] / plain.distinct_3,
            repetition=repetition(answers),
            looping=looping(answers),
            to_unsteered=interval(record.get("to_unsteered", math.nan) for record in records),
            to_query=interval(record.get("to_query", math.nan) for record in records),
            refusals=together.refusals(records),
            empty=sum(not answer.strip() for answer in answers) / len(records),
            texts=len(records),
            sentences=plain.sentences(records),
        )

    def laws(self) -> list[LawDose]:
        """Both laws at equal doses, over the emotions that reach the dose under both."""
        by_dose: dict[float, dict[str, dict[str, Cell]]] = {}
        for cell in self._cells:
            if cell.by == DOSE:
                by_dose.setdefault(cell.divergence, {}).setdefault(cell.name, {})[cell.law] = cell
        results = []
        for divergence, emotions in sorted(by_dose.items()):
            both = [cells for cells in emotions.values() if {*_LAWS} <= {*cells}]
            if both:
                laws = {law: [cells[law] for cells in both] for law in _LAWS}
                results.append(self._law_dose(divergence, laws))
        return results

    def _law_dose(self, divergence: float, laws: Mapping[str, Sequence[Cell]]) -> LawDose:
        rows = {
            law: [r for cell in cells for r in self._cells[cell]] for law, cells in laws.items()
        }
        preserve, add = rows["preserve"], rows["add"]
        queries = [record["query"] for record in add]
        shown = {
            law: [intended(record, self._main, record["name"]) for record in records]
            for law, records in rows.items()
        }
        adherence = ([record["to_unsteered"] for record in records] for records in (preserve, add))
        return LawDose(
            divergence=divergence,
            realised={law: mean(cell.moves for cell in cells) for law, cells in laws.items()},
            emotions=[cell.name for cell in laws["add"]],
            intended={law: mean(values) for law, values in shown.items()},
            perplexity_ratio={
                law: together.perplexity(records) / self._of_queries.perplexity
                for law, records in rows.items()
            },
            intended_difference=together.paired(shown["preserve"], shown["add"], queries),
            surprise_difference=together.surprise_difference(preserve, add),
            adherence_difference=together.paired(*adherence, queries),
        )

    def monotone(self, points: Sequence[EmotionPoint]) -> list[Monotone]:
        """Whether more strength is more emotion, for every emotion that the main judge knows and
        every law.
        """
        start = {p.emotion: p for p in points if p.mode == UNSTEERED}
        curves: dict[tuple[str, str], list[EmotionPoint]] = {}
        for point in points:
            known = point.emotion in self._main.emotions
            if known and point.by == STRENGTH and 0 < point.strength <= 1:
                curve = curves.setdefault((point.emotion, point.law), [start[point.emotion]])
                curve.append(point)
        judge = self._main.name
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
        if len(self._readers) < 2:
            return []
        cells = [cell for cell in self._cells if cell.experiment == STATES]
        one, other = self._readers[:2]
        tops, found = [], []
        for reader in (one, other):
            tops.append([r["top"][reader.name] for cell in cells for r in self._cells[cell]])
            found.append([value for cell in cells for value in self._cosines(cell, reader)])
        return [agreement((one.name, other.name), tops, found, (one.points, other.points))]

    def judged(self, law: str) -> list[JudgedEmotion]:
        """What the first two judges find in each emotion that both know, at strength 1.0."""
        steered = {cell.name: self._cells[cell] for cell in self._steered(law)}
        return judged(self._of_queries.records, steered, self._readers[:2])

    def samples(self, law: str) -> list[Sample]:
        """The same queries and seed unsteered and under every emotion, by prompt and by vector.

        Prompts by the first template that asks for emotions, vectors at strength 1.0.
        """
        plain = self._of_queries.records
        queries = list(dict.fromkeys(record["query"] for record in plain))
        step = max(1, len(queries) // _SAMPLES)
        texts: dict[str, dict[str, str]] = {query: {} for query in queries[::step][:_SAMPLES]}
        prompted = [c for c in self._cells if c.experiment == EMOTIONS and c.mode == PROMPT]
        shown = [c for c in prompted if c.template == prompted[0].template] + self._at_one(law)
        shown.sort(key=lambda cell: (cell.name, cell.mode))
        conditions = {f"{cell.name}, by {cell.mode}": self._cells[cell] for cell in shown}
        for condition, records in {UNSTEERED: plain, **conditions}.items():
            for record in records:
                if record["query"] in texts and record["seed"] == 0:
                    texts[record["query"]][condition] = record["opening"] + record["answer"]
        return [Sample(query, 0, answers) for query, answers in texts.items()]
