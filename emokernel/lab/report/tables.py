"""The tables of the report, as text that HTML and Markdown lay out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emokernel.lab.evaluate.results import (
    PROMPT,
    UNSTEERED,
    VECTOR,
    Ceiling,
    Consistency,
    Measures,
    StateResult,
)
from emokernel.lab.report.figures import (
    MISSING,
    counted,
    interval,
    number,
    percent,
    plain,
    probability,
    times,
    worded,
)
from emokernel.lab.report.view import ADD, MODES, NAMES, PRESERVE, View, title

# What is said of a goal that holds, that does not, and that was not measured.
HELD: dict[bool | None, str] = {True: "holds", False: "does not hold", None: "not measured"}
_SHOWN_LABELS = 3
_JOINED = "\N{NO-BREAK SPACE}"
_DISTINCT = "Distinct\N{NON-BREAKING HYPHEN}3"


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of a row names it. ``words``: the other columns that hold text;
    ``totalled``: whether the last row sums up the others."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: tuple[int, ...] = ()
    totalled: bool = False


def goals(view: View) -> Table:
    """What the evaluation was asked to show."""
    return Table(
        "Goals",
        ["Goal", "Found", "Asked for", "Verdict"],
        [[goal.name, goal.value, goal.bound, HELD[goal.holds]] for goal in view.results.goals],
        (1, 2, 3),
    )


def headline(view: View) -> Table:
    """Each mode by its best template at full intensity, with floor and ceiling."""
    ceiling = view.ceiling()
    rows = [
        [
            title(row, view.templates(mode)),
            interval(row.cosine),
            number(row.floor.mean),
            number(ceiling.cosine.mean if ceiling else None),
            percent(share(row, ceiling)),
            number(row.pooled),
            number(ceiling.pooled if ceiling else None),
            times(row.perplexity),
            times(row.distinct_3),
        ]
        for mode, row in view.full().items()
    ]
    return Table(
        f"12 states at intensity {number(view.intensity)}, judge {view.judge}",
        [
            "Emotion asked for", "Mean cosine", "Floor", "Ceiling", "Of ceiling", "Pooled",
            "Pooled ceiling", "Perplexity", _DISTINCT,
        ],
        rows,
    )  # fmt: skip


def share(row: Consistency, ceiling: Ceiling | None) -> float | None:
    """The mean cosine as a share of the ceiling's; None where there is none above 0."""
    if ceiling is None or not ceiling.cosine.mean > 0:
        return None
    return row.cosine.mean / ceiling.cosine.mean


def by_template(view: View) -> Table:
    """Every mode and template at full intensity, by the main judge."""
    rows = [row for row in view.rows(view.judge) if row.intensity == view.intensity]
    return Table(
        f"Modes and templates at intensity {number(view.intensity)}, judge {view.judge}",
        ["Condition", *_DETAILS],
        [[_named(row), *_details(row)] for row in rows],
    )


def by_intensity(view: View) -> Table:
    """Mean cosine of every mode and template, intensities as columns."""
    found = view.rows(view.judge)
    intensities = sorted({row.intensity for row in found})
    conditions: dict[str, dict[float, Consistency]] = {}
    for row in found:
        conditions.setdefault(_named(row), {})[row.intensity] = row
    return Table(
        f"Mean cosine by intensity, judge {view.judge}",
        ["Condition", *(number(each) for each in intensities)],
        [
            [name, *(interval(of[each].cosine if each in of else None) for each in intensities)]
            for name, of in conditions.items()
        ],
    )


def everything(view: View, judge: str) -> Table:
    """All that one judge found of the consistency."""
    return Table(
        f"All conditions, judge {judge}",
        ["Condition", "Intensity", *_DETAILS],
        [[_named(row), number(row.intensity), *_details(row)] for row in view.rows(judge)],
    )


def by_judge(view: View) -> Table:
    """The modes at full intensity, one judge beside the other."""
    full = {judge: view.full(judge) for judge in view.judges}
    modes = [mode for mode in MODES if any(mode in of for of in full.values())]
    rows = [
        [
            title(view.full()[mode], view.templates(mode)) if mode in view.full() else NAMES[mode],
            *(interval(of[mode].cosine if mode in of else None) for of in full.values()),
        ]
        for mode in modes
    ]
    ceilings = [view.ceiling(judge) for judge in full]
    if any(ceilings):
        rows.append(["ceiling", *(interval(each.cosine if each else None) for each in ceilings)])
    return Table(
        f"Mean cosine at intensity {number(view.intensity)}, by judge",
        ["Emotion asked for", *full],
        rows,
    )


def states(view: View) -> Table:
    """State by state at full intensity: cosines of each mode and of the ceiling."""
    full, ceiling = view.full(), view.ceiling()
    of_mode = {mode: {state.angle: state for state in row.states} for mode, row in full.items()}
    human = {state.angle: state for state in ceiling.states} if ceiling else {}
    angles = sorted({angle for of in of_mode.values() for angle in of})
    return Table(
        f"State by state at intensity {number(view.intensity)}, judge {view.judge}",
        ["State", *(NAMES[mode].capitalize() for mode in full), "Ceiling"],
        [
            [
                _state(angle),
                *(interval(of[angle].cosine if angle in of else None) for of in of_mode.values()),
                number(human[angle].cosine if angle in human else None),
            ]
            for angle in angles
        ],
    )


def labels(view: View) -> Table:
    """The most frequent labels of every state."""
    full = view.full()
    angles = sorted({state.angle for row in full.values() for state in row.states})
    found = [{state.angle: state for state in row.states} for row in full.values()]
    return Table(
        f"Most frequent labels of each state, judge {view.judge}",
        ["State", *(NAMES[mode].capitalize() for mode in full)],
        [
            [_state(angle), *(_tops(of[angle]) if angle in of else MISSING for of in found)]
            for angle in angles
        ],
        tuple(range(1, len(full) + 1)),
    )


def ceiling(found: Ceiling) -> Table:
    """The human text that stands for each state."""
    return Table(
        f"Ceiling: {found.source}, labels with at least {counted(found.least, 'text')}, judge"
        f" {found.judge}: mean cosine {interval(found.cosine)}, pooled {number(found.pooled)}",
        ["State", "Label", "Texts", "Cosine"],
        [
            [_state(state.angle), state.label, f"{state.texts:,}", number(state.cosine)]
            for state in found.states
        ],
        (1,),
    )


def emotions(view: View) -> Table:
    """Each emotion unsteered, by prompt, and by vector at strength 1.0; the mean of all below.

    Empty answers and refusals get columns if there are any.
    """
    vectors = [point.measures for name in view.emotions if (point := view.at(name, VECTOR))]
    shown = {
        name: (of, said)
        for name, (of, said) in _OF_VECTORS.items()
        if name not in _RARE or any(of(each) > 0 for each in vectors)
    }
    rows = []
    for name in sorted(view.emotions, key=lambda name: -_mean(view, name)):
        vector = view.at(name, VECTOR)
        rows.append(
            [
                name,
                *(interval(view.intended(view.at(name, mode))) for mode in _CONDITIONS),
                *(said(of(vector.measures)) if vector else MISSING for of, said in shown.values()),
            ]
        )
    if len(rows) > 1:
        means = (said(_mean_of([of(each) for each in vectors])) for of, said in shown.values())
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
        found = {point.strength: view.intended(point) for point in view.curve(name, law)}
        rows.append([name, *(interval(found.get(each)) for each in given)])
    return Table(
        f"Probability of the intended emotion by strength, law {law}, judge {view.judge}",
        ["Emotion", *(number(each) for each in given)],
        rows,
    )


def monotone(view: View) -> Table:
    """Rank correlation of strength and intended emotion."""
    laws = list(dict.fromkeys(row.law for row in view.results.monotone))
    found = {(row.emotion, row.law): row.correlation for row in view.results.monotone}
    names = dict.fromkeys(row.emotion for row in view.results.monotone)
    return Table(
        "Spearman's correlation of strength 0 to 1 and the intended emotion's probability",
        ["Emotion", *(law or "vectors" for law in laws)],
        [[name, *(number(found.get((name, law))) for law in laws)] for name in names],
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


_DETAILS = (
    "Mean cosine", "Pooled", "Floor", "p", f"No{_JOINED}place", "Refusals", "Empty", "Perplexity",
    _DISTINCT, "Texts",
)  # fmt: skip


def _details(row: Consistency) -> list[str]:
    return [
        interval(row.cosine), number(row.pooled), interval(row.floor), probability(row.p),
        percent(row.placeless, 1), percent(row.refusals, 1), percent(row.empty, 1),
        times(row.perplexity), times(row.distinct_3), f"{row.texts:,}",
    ]  # fmt: skip


def _named(row: Consistency) -> str:
    name = NAMES.get(row.mode, row.mode)
    return f"{name}: {row.template}" if row.template else name


def _state(angle: float) -> str:
    x, y = (f(math.radians(angle)) for f in (math.cos, math.sin))
    return f"{angle:.0f}° ({number(x, signed=True)},{_JOINED}{number(y, signed=True)})"


def _tops(state: StateResult) -> str:
    texts = sum(state.tops.values())
    shown = sorted(state.tops.items(), key=lambda item: -item[1])[:_SHOWN_LABELS]
    shares = (f"{label}{_JOINED}{percent(n / texts)}" for label, n in shown if texts)
    return ", ".join(shares) or MISSING


def _mean(view: View, name: str) -> float:
    found = view.intended(view.at(name, VECTOR))
    return found.mean if found and not math.isnan(found.mean) else -math.inf


def _means(view: View) -> list[str]:
    """The intended emotion of each condition, over the emotions that it was measured for."""
    points = {mode: [view.at(name, mode) for name in view.emotions] for mode in _CONDITIONS}
    return [
        number(_mean_of([found.mean for point in of if (found := view.intended(point))]))
        for of in points.values()
    ]


def _tenth(share: float) -> str:
    return percent(share, 1)


_CONDITIONS = (UNSTEERED, PROMPT, VECTOR)
_RARE = ("Empty", "Refusals")
_OF_VECTORS: dict[str, tuple[Callable[[Measures], float], Callable[[float], str]]] = {
    "Perplexity": (lambda m: m.perplexity_ratio, times),
    _DISTINCT: (lambda m: m.distinct_3_ratio, times),
    "Repetition": (lambda m: m.repetition, _tenth),
    "To unsteered": (lambda m: m.to_unsteered.mean, number),
    "To opening": (lambda m: m.to_query.mean, number),
    "Empty": (lambda m: m.empty, _tenth),
    "Refusals": (lambda m: m.refusals, _tenth),
}


def _mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _is_words(value: Any) -> bool:
    return value is not None and not isinstance(value, (int, float))


def _is_share(key: str, judge: Mapping[str, Any]) -> bool:
    value = judge.get(key)
    return "accuracy" in key and isinstance(value, float) and 0 <= value <= 1
