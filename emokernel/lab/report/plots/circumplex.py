"""Requested against found on the circumplex."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.evaluate.results import Consistency
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.plots.curves import curve, drawable
from emokernel.lab.report.plots.looks import CEILING, mode_look
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
            NAMES.get(mode, mode).capitalize(),
            f"lines lead from the {len(row.states)} requested points of the circle to the mean of"
            f" what was found; mean cosine {number(row.cosine.mean)}.",
            lambda axes, row=row: _circle(axes, row),
        )
        for mode, row in rows.items()
    ]
    ceiling = view.ceiling()
    return Chart(
        "circumplex",
        f"Requested (rings) and found (filled: mean over texts of the place of the top label), at"
        f" intensity {number(view.intensity)}. A line that runs straight inwards keeps its"
        " direction; a filled mark near the centre means that the texts of a state differ, or"
        " have labels without a place.",
        [*circles, _by_state(view, rows)],
        [*map(mode_look, rows), *([CEILING] if ceiling else [])],
        size=(2.75, 2.7),
        columns=min(4, len(circles) + 1),
    )


def _circle(axes: Axes, row: Consistency) -> None:
    look = mode_look(row.mode)
    circle = need("matplotlib.patches").Circle
    axes.add_patch(circle((0, 0), 1, fill=False, color="#9ca3af", linewidth=0.8))
    for across, up in (((-1, 1), (0, 0)), ((0, 0), (-1, 1))):
        axes.plot(across, up, color="#d1d5db", linewidth=0.8, zorder=0)
    for state in row.states:
        x, y = (f(math.radians(state.angle)) for f in (math.cos, math.sin))
        axes.plot(x, y, "o", color=look.colour, markerfacecolor="white", markersize=6, zorder=3)
        axes.text(1.19 * x, 1.19 * y, f"{state.angle:.0f}°", ha="center", va="center", fontsize=8)
        if all(map(math.isfinite, state.found)):
            axes.annotate(
                "", state.found, (x, y), zorder=2,
                arrowprops={"arrowstyle": "-", "color": look.colour, "alpha": 0.55, "lw": 1.2},
            )  # fmt: skip
            axes.plot(*state.found, look.marker, color=look.colour, markersize=6, zorder=4)
    axes.set(
        xlim=(-1.32, 1.32), ylim=(-1.32, 1.32), aspect="equal", xticks=(), yticks=(),
        xlabel="valence →", ylabel="arousal →",
    )  # fmt: skip
    axes.spines[:].set_visible(False)


def _by_state(view: View, rows: dict[str, Consistency]) -> Panel:
    ceiling = view.ceiling()

    def draw(axes: Axes) -> None:
        axes.axhline(0, color="#6b7280", linewidth=0.9)
        for mode, row in rows.items():
            states = sorted(row.states, key=lambda state: state.angle)
            cosines = [state.cosine.mean for state in states]
            curve(axes, [state.angle for state in states], cosines, mode_look(mode))
        if ceiling:
            human = sorted(ceiling.states, key=lambda state: state.angle)
            cosines = [state.cosine for state in human]
            curve(axes, [state.angle for state in human], cosines, CEILING)
        axes.set(xlabel="requested angle, degrees", ylabel="mean cosine", xticks=range(0, 361, 90))
        axes.set_ylim(min(-0.2, axes.get_ylim()[0]), max(1.0, axes.get_ylim()[1]))

    weakest = {
        mode: min(row.states, key=lambda state: _low(state.cosine.mean))
        for mode, row in rows.items()
    }
    message = "; ".join(
        f"{NAMES.get(mode, mode)} weakest at {state.angle:.0f}° ({number(state.cosine.mean)})"
        for mode, state in weakest.items()
    )
    return Panel("Cosine by state", f"{message}.", draw)


def _low(value: float) -> float:
    return math.inf if math.isnan(value) else value
