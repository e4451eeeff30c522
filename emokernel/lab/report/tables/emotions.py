"""Tables of the emotions: how much of each is heard, what steering costs, both laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from emokernel.lab.evaluate.results import PROMPT, UNSTEERED, VECTOR, EmotionPoint, Measures
from emokernel.lab.report.figures import interval, number, percent, times
from emokernel.lab.report.parts import Table
from emokernel.lab.report.tables.states import DISTINCT
from emokernel.lab.report.view import ADD, NAMES, PRESERVE, View, of_sentences

_CONDITIONS = (UNSTEERED, PROMPT, VECTOR)


def _tenth(share: float) -> str:
    return percent(share, 1)


# Of the texts by vector.
_OF_VECTORS: dict[str, tuple[Callable[[Measures], float], Callable[[float], str]]] = {
    "Perplexity": (lambda m: m.perplexity_ratio, times),
    DISTINCT: (lambda m: m.distinct_3_ratio, times),
    "Repetition": (lambda m: m.repetition, _tenth),
    "Loop": (lambda m: m.looping, _tenth),
    "To unsteered": (lambda m: m.to_unsteered.mean, number),
    "To question": (lambda m: m.to_query.mean, number),
    "Sentences, to unsteered": (lambda m: of_sentences(m, "to_unsteered"), number),
    "Topic kept": (lambda m: of_sentences(m, "kept"), times),
    "Empty": (lambda m: m.empty, _tenth),
    "Refusals": (lambda m: m.refusals, _tenth),
}
# Those that have a column only where there are any.
_RARE = ("Empty", "Refusals", "Sentences, to unsteered", "Topic kept")


def emotions(view: View) -> Table:
    """Each emotion unsteered, by prompt, and by vector at strength 1.0, where the top label is too;
    below, the mean of those that the judge knows.
    """
    points = {name: [view.at(name, mode) for mode in _CONDITIONS] for name in view.strongest_first}
    rows = [
        [name, *(interval(view.intended(point)) for point in of), percent(_top(view, of[-1]))]
        for name, of in points.items()
    ]
    if len(view.known) > 1:
        known = [points[name] for name in view.known]
        by_condition = [map(view.intended, of) for of in zip(*known, strict=True)]
        means = [number(_mean([each.mean for each in of if each])) for of in by_condition]
        top = _mean([_top(view, of[-1]) for of in known if of[-1]])
        rows.append(["mean", *means, percent(top)])
    prompts = f", prompts {view.emotion_template}" if view.emotion_template else ""
    unknown = [name for name in points if name not in view.known]
    left = f"; it has no label for {', '.join(unknown)}, which the mean leaves out"
    judge = f"judge {view.judge}{left if unknown else ''}"
    return Table(
        f"Probability of the intended emotion, {judge}{prompts}; by vector at strength 1.0, with"
        " the share of the texts that have its top label",
        ["Emotion", *(NAMES[mode].capitalize() for mode in _CONDITIONS), "Top label"],
        rows,
        totalled=len(view.known) > 1,
    )


def costs(view: View) -> Table:
    """What the texts of each emotion by vector are like at strength 1.0; below, the mean of those
    that the judge knows.

    Empty answers and refusals get columns if there are any, sentences if there was an encoder.
    """
    points = {
        name: point.measures
        for name in view.strongest_first
        if (point := view.at(name, VECTOR)) is not None
    }
    shown = {
        name: (measure, said)
        for name, (measure, said) in _OF_VECTORS.items()
        if name not in _RARE or any(measure(each) > 0 for each in points.values())
    }
    rows = [
        [name, *(said(measure(of)) for measure, said in shown.values())]
        for name, of in points.items()
    ]
    known = [points[name] for name in view.known if name in points]
    if len(known) > 1:
        means = ((said, _mean(list(map(measure, known)))) for measure, said in shown.values())
        rows.append(["mean", *(said(value) for said, value in means)])
    return Table(
        "Texts by vector at strength 1.0: what it costs, and how near they are to the unsteered"
        " answer and to the question",
        ["Emotion", *shown],
        rows,
        totalled=len(known) > 1,
    )


def _top(view: View, point: EmotionPoint | None) -> float:
    found = point.measures.top.get(view.judge) if point else None
    return found.mean if found else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def laws(view: View) -> Table:
    """Add and preserve at equal dose, and preserve less add, text by text."""
    both = (ADD, PRESERVE)
    means = [
        f"{what}, {law}" for what in ("Dose reached", "Intended", "Perplexity") for law in both
    ]
    differences = [f"Difference in {what}" for what in ("intended", "surprise", "adherence")]
    return Table(
        "Equal dose: means over the emotions that reach it under both laws; preserve less add,"
        " paired text by text (surprise in nats per token)",
        ["Dose asked for (nats)", *means, *differences, "Emotions"],
        [
            [
                number(row.divergence, 3),
                *(number(row.realised.get(law), 3) for law in both),
                *(number(row.intended.get(law), 3) for law in both),
                *(times(row.perplexity_ratio.get(law)) for law in both),
                interval(row.intended_difference, 3, signed=True),
                interval(row.surprise_difference, 3, signed=True),
                interval(row.adherence_difference, 3, signed=True),
                str(len(row.emotions)),
            ]
            for row in view.results.laws
        ],
    )
