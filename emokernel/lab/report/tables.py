"""Tables of the report: of the goals, the emotions, the two laws and the judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emokernel.lab.evaluate.results import PROMPT, UNSTEERED, VECTOR, Measures
from emokernel.lab.report.figures import MISSING, interval, number, percent, plain, times, worded
from emokernel.lab.report.view import ADD, NAMES, PRESERVE, View

# Table head of a measure that several tables have.
DISTINCT = "Distinct\N{NON-BREAKING HYPHEN}3"
# What is said of a goal that holds, that does not, and that was not measured.
HELD: dict[bool | None, str] = {True: "holds", False: "does not hold", None: "not measured"}


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of a row names it. ``words``: the other columns that hold text;
    ``totalled``: whether the last row sums up the others."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: tuple[int, ...] = ()
    totalled: bool = False


def emotions(view: View) -> Table:
    """Each emotion unsteered, by prompt, and by vector at strength 1.0; the mean of all below.

    Empty answers and refusals get columns if there are any.
    """
    vectors = [point.measures for name in view.emotions if (point := view.at(name, VECTOR))]
    shown = {
        name: (measure, said)
        for name, (measure, said) in _OF_VECTORS.items()
        if name not in _RARE or any(measure(each) > 0 for each in vectors)
    }
    rows = []
    for name in sorted(view.emotions, key=lambda name: -_mean(view, name)):
        vector = view.at(name, VECTOR)
        rows.append(
            [
                name,
                *(interval(view.intended(view.at(name, mode))) for mode in _CONDITIONS),
                *(
                    said(measure(vector.measures)) if vector else MISSING
                    for measure, said in shown.values()
                ),
            ]
        )
    if len(rows) > 1:
        means = (
            said(_mean_of([measure(each) for each in vectors])) for measure, said in shown.values()
        )
        rows.append(["mean", *_means(view), *means])
    return Table(
        f"Probability of the intended emotion, judge {view.judge}{prompted_by(view)}; the right"
        " half describes the texts by vector at strength 1.0",
        ["Emotion", *(NAMES[mode].capitalize() for mode in _CONDITIONS), *shown],
        rows,
        totalled=len(view.emotions) > 1,
    )


def prompted_by(view: View) -> str:
    """The template of the prompts, as an addition to a caption."""
    return f", prompts {view.emotion_template}" if view.emotion_template else ""


def strengths(view: View, law: str) -> Table:
    """The intended emotion at every strength under a law."""
    given = view.strengths(law)
    rows = []
    for name in view.emotions:
        values = {point.strength: view.intended(point) for point in view.curve(name, law)}
        rows.append([name, *(interval(values.get(each)) for each in given)])
    return Table(
        f"Probability of the intended emotion by strength, law {law}, judge {view.judge}",
        ["Emotion", *(number(each) for each in given)],
        rows,
    )


def monotone(view: View) -> Table:
    """Rank correlation of strength and intended emotion."""
    laws = list(dict.fromkeys(row.law for row in view.results.monotone))
    correlations = {(row.emotion, row.law): row.correlation for row in view.results.monotone}
    names = dict.fromkeys(row.emotion for row in view.results.monotone)
    return Table(
        "Spearman's correlation of strength 0 to 1 and the intended emotion's probability",
        ["Emotion", *(law or "vectors" for law in laws)],
        [[name, *(number(correlations.get((name, law))) for law in laws)] for name in names],
    )


def laws(view: View) -> Table:
    """Add and preserve at equal dose."""
    rows = sorted(view.results.laws, key=lambda row: row.divergence)
    both = (ADD, PRESERVE)
    return Table(
        "Equal dose: means over the emotions that reach it under both laws",
        [
            "Dose asked for (nats)",
            *(f"{what}, {law}" for what in ("Dose reached", "Intended", "Perplexity")
              for law in both),
            "Emotions",
        ],
        [
            [
                number(row.divergence, 3),
                *(number(row.realised.get(law), 3) for law in both),
                *(number(row.intended.get(law), 3) for law in both),
                *(times(row.perplexity_ratio.get(law)) for law in both),
                str(len(row.emotions)),
            ]
            for row in rows
        ],
    )  # fmt: skip


def law_differences(view: View) -> Table:
    """Preserve less add, text by text."""
    rows = sorted(view.results.laws, key=lambda row: row.divergence)
    return Table(
        "Preserve less add at equal dose, paired text by text",
        ["Dose asked for (nats)", "Intended emotion", "Surprise (nats per token)",
         "Adherence to unsteered"],
        [
            [
                number(row.divergence, 3),
                interval(row.intended_difference, 3, signed=True),
                interval(row.surprise_difference, 3, signed=True),
                interval(row.adherence_difference, 3, signed=True),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _mean(view: View, name: str) -> float:
    value = view.intended(view.at(name, VECTOR))
    return value.mean if value and not math.isnan(value.mean) else -math.inf


def _means(view: View) -> list[str]:
    """The intended emotion of each condition, over the emotions that it was measured for."""
    points = {mode: [view.at(name, mode) for name in view.emotions] for mode in _CONDITIONS}
    return [
        number(_mean_of([value.mean for point in each if (value := view.intended(point))]))
        for each in points.values()
    ]


def _tenth(share: float) -> str:
    return percent(share, 1)


_CONDITIONS = (UNSTEERED, PROMPT, VECTOR)
_RARE = ("Empty", "Refusals")
_OF_VECTORS: dict[str, tuple[Callable[[Measures], float], Callable[[float], str]]] = {
    "Perplexity": (lambda m: m.perplexity_ratio, times),
    DISTINCT: (lambda m: m.distinct_3_ratio, times),
    "Repetition": (lambda m: m.repetition, _tenth),
    "To unsteered": (lambda m: m.to_unsteered.mean, number),
    "To opening": (lambda m: m.to_query.mean, number),
    "Empty": (lambda m: m.empty, _tenth),
    "Refusals": (lambda m: m.refusals, _tenth),
}


def _mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def goals(view: View) -> Table:
    """What the evaluation was asked to show."""
    return Table(
        "Goals",
        ["Goal", "Found", "Asked for", "Verdict"],
        [[goal.name, goal.value, goal.bound, HELD[goal.holds]] for goal in view.results.goals],
        (1, 2, 3),
    )


def agreement(view: View) -> Table:
    """Judges against each other."""
    return Table(
        "Two judges on the same texts",
        ["Judges", "Texts", "Same top label", "Cohen's kappa", "Correlation of cosines",
         "Within 45°"],
        [
            [
                " and ".join(row.judges), f"{row.texts:,}", percent(row.equal), number(row.kappa),
                number(row.cosine_correlation), percent(row.within_45),
            ]
            for row in view.results.agreement
        ],
    )  # fmt: skip


def judges(view: View) -> Table:
    """What is known of each judge; other facts than the usual ones get columns of their own."""
    listed: Sequence[Mapping[str, Any]] = view.results.about.get("judges", ())
    keys = list(dict.fromkeys(key for judge in listed for key in judge if key != "name"))
    return Table(
        "Judges",
        ["Judge", *(worded(key).capitalize() for key in keys)],
        [
            [
                plain(judge.get("name")),
                *(
                    percent(judge[key], 1) if _is_share(key, judge) else plain(judge.get(key))
                    for key in keys
                ),
            ]
            for judge in listed
        ],
        tuple(n for n, key in enumerate(keys, 1) if any(_is_words(j.get(key)) for j in listed)),
    )


def _is_words(value: Any) -> bool:
    return value is not None and not isinstance(value, (int, float))


def _is_share(key: str, judge: Mapping[str, Any]) -> bool:
    value = judge.get(key)
    return "accuracy" in key and isinstance(value, float) and 0 <= value <= 1
