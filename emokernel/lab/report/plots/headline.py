"""Mean cosine of every condition between floor and ceiling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from emokernel.lab.report.figures import interval, number
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.plots.curves import errors
from emokernel.lab.report.plots.looks import CEILING, FLOOR, mode_look
from emokernel.lab.report.view import NAMES, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def headline(view: View) -> Chart | None:
    """None without a consistency experiment, or with figures that are not numbers."""
    rows = {mode: row for mode, row in view.full().items() if math.isfinite(row.cosine.mean)}
    if not rows:
        return None
    ceiling = view.ceiling()

    def draw(axes: Axes) -> None:
        for place, (mode, row) in enumerate(rows.items()):
            look = mode_look(mode)
            axes.errorbar(
                row.cosine.mean, place, xerr=errors(row.cosine), color=look.colour,
                marker=look.marker, markersize=8, elinewidth=2.2, capsize=4,
            )  # fmt: skip
            if math.isfinite(row.floor.mean):
                axes.plot([row.floor.mean] * 2, [place - 0.3, place + 0.3], color=FLOOR.colour,
                          linestyle=FLOOR.line, linewidth=1.8)  # fmt: skip
        if ceiling and math.isfinite(ceiling.cosine.mean):
            axes.axvline(ceiling.cosine.mean, color=CEILING.colour, linestyle=CEILING.line)
            axes.axvspan(ceiling.cosine.low, ceiling.cosine.high, color="#111827", alpha=0.08,
                         linewidth=0)  # fmt: skip
        axes.set_yticks(range(len(rows)), [NAMES.get(mode, mode) for mode in rows])
        axes.set(xlabel="mean cosine", ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlim(min(-0.1, axes.get_xlim()[0]), max(1.0, axes.get_xlim()[1]))
        axes.grid(axis="y", visible=False)

    message = "; ".join(
        f"{NAMES.get(mode, mode)} {interval(row.cosine)}, floor {number(row.floor.mean)}"
        for mode, row in rows.items()
    )
    message += f"; ceiling {interval(ceiling.cosine)}." if ceiling else "; ceiling not known."
    return Chart(
        "headline",
        f"Mean cosine of the requested with the found emotion, 12 states at intensity"
        f" {number(view.intensity)}, with 95 % intervals. 1 is perfect, 0 is chance.",
        [Panel("From floor to ceiling", message, draw)],
        [FLOOR, *([CEILING] if ceiling else [])],
        size=(4.2, 0.9 + 0.42 * len(rows)),
        columns=1,
    )
