"""Tables of the report: of the goals, the states, the emotions, the two laws and the judges; the
samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emokernel.lab.evaluate.results import (
    PROMPT,
    UNSTEERED,
    VECTOR,
    Consistency,
    EmotionPoint,
    Measures,
    Sample,
    StateResult,
)
from emokernel.lab.report.figures import (
    MISSING,
    interval,
    number,
    percent,
    plain,
    probability,
    times,
    worded,
)
from emokernel.lab.report.parts import Goals, SampleGroup, Table
from emokernel.lab.report.view import ADD, MODES, NAMES, PRESERVE, View

_HELD: dict[bool | None, str] = {True: "reached", False: "not reached", None: "not measured"}
_CONDITIONS = (UNSTEERED, PROMPT, VECTOR)
_WAYS = tuple(NAMES[mode] for mode in MODES)
_LONGEST_TEXT, _EMPTY = 1200, "(empty)"
# Table head of a measure that several tables have.
DISTINCT = "Distinct\N{NON-BREAKING HYPHEN}3"
_SHOWN_LABELS = 3
_JOINED = "\N{NO-BREAK SPACE}"
_DETAILS: dict[str, Callable[[Consistency], str]] = {
    "Floor": lambda row: interval(row.floor),
    "p": lambda row: probability(row.p),
    f"No{_JOINED}place": lambda row: percent(row.placeless, 1),
    "Refusals": lambda row: percent(row.refusals, 1),
    "Empty": lambda row: percent(row.empty, 1),
    "Perplexity": lambda row: times(row.perplexity),
    DISTINCT: lambda row: times(row.distinct_3),
    "Texts": lambda row: f"{row.texts:,}",
}


def goals(view: View) -> Goals:
    """What the evaluation was asked to show, and what was measured."""
    return Goals(
        "Asked and measured",
        ["What", "Measured", "Asked", "Reached"],
        [
            [
                goal.name,
                "; ".join(filter(None, (goal.value, goal.doubt))),
                goal.bound,
                _HELD[goal.holds],
            ]
            for goal in view.results.goals
        ],
        (1, 2, 3),
    )


def conditions(view: View, judge: str) -> Table:
    """Every mode and template at full intensity, as a judge reads them, above its ceiling."""
    human = view.ceiling(judge)
    top = human.cosine.mean if human else 0.0
    rows = [
        [
            f"{NAMES[row.mode]}: {row.template}" if row.template else NAMES[row.mode],
            interval(row.cosine),
            percent(row.cosine.mean / top if top > 0 else None),
            number(row.pooled),
            *(said(row) for said in _DETAILS.values()),
        ]
        for row in view.rows(judge)
        if row.intensity == view.intensity
    ]
    if human:
        of_human = [interval(human.cosine), MISSING, number(human.pooled)]
        rows.append([f"ceiling ({human.source})", *of_human, *(MISSING for _ in _DETAILS)])
    return Table(
        f"12 states at intensity {number(view.intensity)}, judge {judge}",
        ["Emotion asked for", "Mean cosine", "Of ceiling", "Pooled", *_DETAILS],
        rows,
    )


def states(view: View) -> Table:
    """State by state at full intensity: cosines of each mode and of the ceiling."""
    ceiling = view.ceiling()
    human = {state.angle: number(state.cosine) for state in ceiling.states} if ceiling else {}
    columns, rows = _by_state(view, lambda state: interval(state.cosine))
    return Table(
        f"State by state at intensity {number(view.intensity)}, judge {view.judge}",
        [*columns, "Ceiling"],
        [[_state(angle), *cells, human.get(angle, MISSING)] for angle, cells in rows.items()],
    )


def labels(view: View) -> Table:
    """The most frequent labels of every state."""
    columns, rows = _by_state(view, _tops)
    return Table(
        f"Most frequent labels of each state, judge {view.judge}",
        columns,
        [[_state(angle), *cells] for angle, cells in rows.items()],
        range(1, len(columns)),
    )


def _by_state(
    view: View, cell: Callable[[StateResult], str]
) -> tuple[list[str], dict[float, list[str]]]:
    """The heads of the columns, and {angle: the cell of each mode}."""
    full = view.full()
    found = [{state.angle: cell(state) for state in row.states} for row in full.values()]
    angles = sorted({angle for by_angle in found for angle in by_angle})
    rows = {angle: [by_angle.get(angle, MISSING) for by_angle in found] for angle in angles}
    return ["State", *(NAMES[mode].capitalize() for mode in full)], rows


def _state(angle: float) -> str:
    x, y = (f(math.radians(angle)) for f in (math.cos, math.sin))
    return f"{angle:.0f}° ({number(x, signed=True)},{_JOINED}{number(y, signed=True)})"


def _tops(state: StateResult) -> str:
    texts = sum(state.tops.values())
    shown = sorted(state.tops.items(), key=lambda item: -item[1])[:_SHOWN_LABELS]
    shares = (f"{label}{_JOINED}{percent(n / texts)}" for label, n in shown if texts)
    return ", ".join(shares) or MISSING


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
    "Sentences, to unsteered": (lambda m: _sentences(m, "to_unsteered"), number),
    "Topic kept": (lambda m: _sentences(m, "kept"), times),
    "Empty": (lambda m: m.empty, _tenth),
    "Refusals": (lambda m: m.refusals, _tenth),
}
_RARE = ("Empty", "Refusals", "Sentences, to unsteered", "Topic kept")


def emotions(view: View) -> Table:
    """Each emotion unsteered, by prompt, and by vector at strength 1.0; below, the mean of those
    that the judge knows.

    Empty answers and refusals get columns if there are any, sentences if there was an encoder.
    """
    points = {name: [view.at(name, mode) for mode in _CONDITIONS] for name in view.strongest_first}
    steered = [vector.measures for *_, vector in points.values() if vector]
    shown = {
        name: (measure, said)
        for name, (measure, said) in _OF_VECTORS.items()
        if name not in _RARE or any(measure(each) > 0 for each in steered)
    }
    rows = [
        [
            name,
            *(interval(view.intended(point)) for point in of),
            percent(_top(view, of[-1])),
            *(said(measure(of[-1].measures)) if of[-1] else MISSING
              for measure, said in shown.values()),
        ]
        for name, of in points.items()
    ]  # fmt: skip
    if len(view.known) > 1:
        known = [points[name] for name in view.known]
        by_condition = [map(view.intended, of) for of in zip(*known, strict=True)]
        means = [number(_mean([each.mean for each in of if each])) for of in by_condition]
        vectors = [of[-1] for of in known if of[-1]]
        described = (
            said(_mean([measure(each.measures) for each in vectors]))
            for measure, said in shown.values()
        )
        top = percent(_mean([_top(view, each) for each in vectors]))
        rows.append(["mean", *means, top, *described])
    prompts = f", prompts {view.emotion_template}" if view.emotion_template else ""
    unknown = [name for name in points if name not in view.known]
    left = f"; {view.judge} has no label for {', '.join(unknown)}, which the mean leaves out"
    return Table(
        f"Probability of the intended emotion, judge {view.judge}{prompts}; the right"
        f" half describes the texts by vector at strength 1.0{left if unknown else ''}",
        ["Emotion", *(NAMES[mode].capitalize() for mode in _CONDITIONS), "Top label", *shown],
        rows,
        totalled=len(view.known) > 1,
    )


def _top(view: View, point: EmotionPoint | None) -> float:
    found = point.measures.top.get(view.judge) if point else None
    return found.mean if found else math.nan


def _sentences(measures: Measures, name: str) -> float:
    return getattr(measures.sentences, name).mean if measures.sentences else math.nan


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


def judged(view: View) -> Table:
    """Emotion by emotion, what either judge finds, how well it tells the texts from unsteered
    ones, and how far both agree; the emotions on which they agree least come first."""
    rows = sorted(
        view.results.judged, key=lambda row: (math.isnan(row.correlation), row.correlation)
    )
    names = list(dict.fromkeys(name for row in rows for name in row.steered))
    return Table(
        "Each emotion as both judges read it, by vector at strength 1.0: mean probability"
        " (unsteered → steered), separation from the unsteered texts, rank correlation of the two",
        ["Emotion", *names, *(f"Separation, {name}" for name in names), "Correlation"],
        [
            [
                row.emotion,
                *(f"{number(row.unsteered.get(n))} → {number(row.steered.get(n))}" for n in names),
                *(number(row.separation.get(name)) for name in names),
                number(row.correlation),
            ]
            for row in rows
        ],
    )


def judges(view: View) -> Table:
    """What is known of each judge; other facts than the usual ones get columns of their own."""
    listed: Sequence[Mapping[str, Any]] = view.results.about.get("judges", ())
    keys = list(dict.fromkeys(key for judge in listed for key in judge if key != "name"))
    words = [key for key in keys if any(isinstance(judge.get(key), str) for judge in listed)]
    return Table(
        "Judges",
        ["Judge", *(worded(key).capitalize() for key in keys)],
        [[plain(judge.get(key)) for key in ("name", *keys)] for judge in listed],
        [n for n, key in enumerate(keys, 1) if key in words],
    )


def samples(sample: Sample) -> SampleGroup:
    """A sample by emotion: "joy, by vector" is the way "by vector" of joy."""
    alone: list[tuple[str, str]] = []
    texts: dict[str, dict[str, str]] = {}
    for condition, text in sample.texts.items():
        emotion, _, way = condition.rpartition(", ")
        if emotion and way in _WAYS:
            texts.setdefault(emotion, {})[way] = _shown(text)
        else:
            alone.append((condition, _shown(text)))
    ways = [way for way in _WAYS if any(way in own for own in texts.values())]
    rows = [(emotion, [own.get(way) for way in ways]) for emotion, own in texts.items()]
    return SampleGroup(_cut(sample.opening), sample.seed, alone, ways, rows)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT].rstrip()} […]"


def _shown(text: str) -> str:
    return _cut(text) if text.strip() else _EMPTY
