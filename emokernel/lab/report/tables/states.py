"""Tables of the twelve states: every way to ask for them, state by state, and the labels."""

from __future__ import annotations

import math
from collections.abc import Callable

from emokernel.lab.evaluate.results import Consistency, StateResult
from emokernel.lab.report.figures import MISSING, interval, number, percent, probability, times
from emokernel.lab.report.parts import Table
from emokernel.lab.report.view import NAMES, View

# Table head of a measure that several tables have.
DISTINCT = "Distinct\N{NON-BREAKING HYPHEN}3"
_SHOWN_LABELS = 3
_RARE = "Empty"  # which has a column only if there is any
_JOINED = "\N{NO-BREAK SPACE}"
_DETAILS: dict[str, Callable[[Consistency], str]] = {
    "Floor": lambda row: interval(row.floor),
    "p": lambda row: probability(row.p),
    f"No{_JOINED}place": lambda row: percent(row.placeless, 1),
    "Refusals": lambda row: percent(row.refusals, 1),
    _RARE: lambda row: percent(row.empty, 1),
    "Perplexity": lambda row: times(row.perplexity),
    DISTINCT: lambda row: times(row.distinct_3),
    "Texts": lambda row: f"{row.texts:,}",
}


def conditions(view: View, judge: str) -> Table:
    """Every mode and template at full intensity, as a judge reads them, above its ceiling."""
    full = [row for row in view.rows(judge) if row.intensity == view.intensity]
    details = {
        name: said for name, said in _DETAILS.items() if name != _RARE or any(r.empty for r in full)
    }
    human = view.ceiling(judge)
    top = human.cosine.mean if human else 0.0
    rows = [
        [
            f"{NAMES[row.mode]}: {row.template}" if row.template else NAMES[row.mode],
            interval(row.cosine),
            percent(row.cosine.mean / top if top > 0 else None),
            number(row.pooled),
            *(said(row) for said in details.values()),
        ]
        for row in full
    ]
    if human:
        of_human = [interval(human.cosine), MISSING, number(human.pooled)]
        rows.append([f"ceiling ({human.source})", *of_human, *(MISSING for _ in details)])
    return Table(
        f"12 states at intensity {number(view.intensity)}, judge {judge}",
        ["Emotion asked for", "Mean cosine", "Of ceiling", "Pooled", *details],
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
