"""The states of the circumplex: requested against found, and how it grows with intensity."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.evaluate.results import VECTOR, Consistency
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.plots.lines import (
    CEILING,
    FLOOR,
    MODES,
    ZERO,
    Curve,
    Value,
    drawable,
    lines,
)
from emokernel.lab.report.view import NAMES, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def circumplex(view: View) -> Chart | None:
    """A circle for every mode at full intensity, and the cosine state by state; None without."""
    rows = {
        mode: row
        for mode, row in view.full().items()
        if drawable(state.cosine.mean for state in row.states)
    }
    if not rows:
        return None
    circles = [
        Panel(
            NAMES[mode].capitalize(),
            f"lines lead from the {len(row.states)} requested points of the circle to the mean of"
            f" what was found; mean cosine {number(row.cosine.mean)}.",
            partial(_circle, row=row),
        )
        for mode, row in rows.items()
    ]
    ceiling = view.ceiling()
    by_angle = [
        (MODES[mode], sorted((state.angle, state.cosine.mean) for state in row.states))
        for mode, row in rows.items()
    ]
    if ceiling:
        by_angle.append((CEILING, sorted((s.angle, s.cosine) for s in ceiling.states)))
    curves = [Curve(look, *zip(*points, strict=True)) for look, points in by_angle if points]
    by_state = lines(
        "Cosine by state", curves, levels=[(0, ZERO)], within=(-0.2, 1.0),
        xlabel="requested angle, degrees", ylabel="mean cosine", xticks=range(0, 361, 90),
    )  # fmt: skip
    return Chart(
        "circumplex",
        f"Requested (rings) and found (filled: mean over texts of the place of the top label), at"
        f" intensity {number(view.intensity)}. A line that runs straight inwards keeps its"
        " direction; a filled mark near the centre means that the texts of a state differ, or"
        " have labels without a place.",
        [*circles, by_state],
        [curve.look for curve in curves],
        size=(2.75, 2.7),
        columns=min(4, len(circles) + 1),
    )


def _circle(axes: Axes, row: Consistency) -> None:
    look = MODES[row.mode]
    circle = need("matplotlib.patches").Circle
    axes.add_patch(circle((0, 0), 1, fill=False, color="#9ca3af", linewidth=0.8))
    for across, up in (((-1, 1), (0, 0)), ((0, 0), (-1, 1))):
        axes.plot(across, up, color="#d1d5db", linewidth=0.8, zorder=0)
    for state in row.states:
        x, y = (f(math.radians(state.angle)) for f in (math.cos, math.sin))
        axes.plot(x, y, "o", color=look.colour, markerfacecolor="white", markersize=6, zorder=3)
        axes.text(1.19 * x, 1.19 * y, f"{state.angle:.0f}°", ha="center", va="center", fontsize=8)
        if all(map(math.isfinite, state.found)):
            axes.plot(*zip((x, y), state.found, strict=True), color=look.colour, alpha=0.55, lw=1.2)
            axes.plot(*state.found, look.marker, color=look.colour, markersize=6, zorder=4)
    axes.set(
        xlim=(-1.32, 1.32), ylim=(-1.32, 1.32), aspect="equal", xticks=(), yticks=(),
        xlabel="valence →", ylabel="arousal →",
    )  # fmt: skip
    axes.spines[:].set_visible(False)


def intensity(view: View) -> Chart | None:
    """Mean and pooled cosine against intensity; None if there is one intensity only."""
    rows = {mode: found for mode in MODES if (found := view.by_intensity(mode))}
    grown = (row.cosine for found in rows.values() if len(found) > 1 for row in found)
    if not drawable(grown):
        return None
    ceiling, full = view.ceiling(), view.full()
    floor = (full.get(VECTOR) or next(iter(full.values()))).floor

    def curves(measure: Callable[[Consistency], Value]) -> list[Curve]:
        return [
            Curve(MODES[mode], [row.intensity for row in found], list(map(measure, found)))
            for mode, found in rows.items()
        ]

    highest = (ceiling.cosine, ceiling.pooled) if ceiling else (None, None)
    named = [f"{NAMES[mode]} ({found[0].template})" for mode, found in rows.items()
             if found[0].template]  # fmt: skip
    return Chart(
        "intensity",
        "Intensity of the request, by mode. Left, the mean cosine over texts with its 95 %"
        " interval; middle, the cosine of the mean direction; right, what it costs in"
        " perplexity under the unsteered model."
        + (f" Drawn are: {', '.join(named)}." if named else ""),
        [
            lines("Mean cosine", curves(lambda row: row.cosine), within=(-0.1, 1.0),
                  levels=[(floor, FLOOR), (highest[0], CEILING)],
                  xlabel="intensity", ylabel="mean cosine"),
            lines("Pooled cosine", curves(lambda row: row.pooled), within=(-0.1, 1.0),
                  levels=[(highest[1], CEILING)], xlabel="intensity", ylabel="pooled cosine"),
            lines("Perplexity", curves(lambda row: row.perplexity), levels=[(1, ZERO)],
                  xlabel="intensity", ylabel="times unsteered"),
        ],
        [*(MODES[mode] for mode in rows), *([CEILING] if ceiling else []), FLOOR],
    )  # fmt: skip
