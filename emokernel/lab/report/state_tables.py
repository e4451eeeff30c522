"""Tables of the states: does the text come from where on the circumplex it was asked for?"""

from __future__ import annotations

import math

from emokernel.lab.evaluate.results import Ceiling, Consistency, StateResult
from emokernel.lab.report.figures import (
    MISSING,
    counted,
    interval,
    number,
    percent,
    probability,
    times,
)
from emokernel.lab.report.tables import DISTINCT, Table
from emokernel.lab.report.view import MODES, NAMES, View, title

_SHOWN_LABELS = 3
_JOINED = "\N{NO-BREAK SPACE}"
_DETAILS = (
    "Mean cosine", "Pooled", "Floor", "p", f"No{_JOINED}place", "Refusals", "Empty", "Perplexity",
    DISTINCT, "Texts",
)  # fmt: skip


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
            "Pooled ceiling", "Perplexity", DISTINCT,
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
    rows = view.rows(view.judge)
    intensities = sorted({row.intensity for row in rows})
    conditions: dict[str, dict[float, Consistency]] = {}
    for row in rows:
        conditions.setdefault(_named(row), {})[row.intensity] = row
    return Table(
        f"Mean cosine by intensity, judge {view.judge}",
        ["Condition", *(number(each) for each in intensities)],
        [
            [name, *(interval(row[each].cosine if each in row else None) for each in intensities)]
            for name, row in conditions.items()
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
    modes = [mode for mode in MODES if any(mode in row for row in full.values())]
    rows = [
        [
            title(view.full()[mode], view.templates(mode)) if mode in view.full() else NAMES[mode],
            *(interval(row[mode].cosine if mode in row else None) for row in full.values()),
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
    angles = sorted({angle for by_angle in of_mode.values() for angle in by_angle})
    return Table(
        f"State by state at intensity {number(view.intensity)}, judge {view.judge}",
        ["State", *(NAMES[mode].capitalize() for mode in full), "Ceiling"],
        [
            [
                _state(angle),
                *(
                    interval(by_angle[angle].cosine if angle in by_angle else None)
                    for by_angle in of_mode.values()
                ),
                number(human[angle].cosine if angle in human else None),
            ]
            for angle in angles
        ],
    )


def labels(view: View) -> Table:
    """The most frequent labels of every state."""
    full = view.full()
    angles = sorted({state.angle for row in full.values() for state in row.states})
    by_mode = [{state.angle: state for state in row.states} for row in full.values()]
    return Table(
        f"Most frequent labels of each state, judge {view.judge}",
        ["State", *(NAMES[mode].capitalize() for mode in full)],
        [
            [
                _state(angle),
                *(_tops(by_angle[angle]) if angle in by_angle else MISSING for by_angle in by_mode),
            ]
            for angle in angles
        ],
        tuple(range(1, len(full) + 1)),
    )


def ceiling(human: Ceiling) -> Table:
    """The human text that stands for each state."""
    return Table(
        f"Ceiling: {human.source}, labels with at least {counted(human.least, 'text')}, judge"
        f" {human.judge}: mean cosine {interval(human.cosine)}, pooled {number(human.pooled)}",
        ["State", "Label", "Texts", "Cosine"],
        [
            [_state(state.angle), state.label, f"{state.texts:,}", number(state.cosine)]
            for state in human.states
        ],
        (1,),
    )


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
