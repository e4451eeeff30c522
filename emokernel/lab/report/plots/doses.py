"""Add against preserve at equal dose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.evaluate.results import Interval, LawDose
from emokernel.lab.report.figures import interval, number
from emokernel.lab.report.plots.chart import Chart, Look, Panel
from emokernel.lab.report.plots.curves import curve, drawable, errors
from emokernel.lab.report.plots.looks import law_look
from emokernel.lab.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIFFERENCE = Look("preserve less add, 95 % interval", "#111827", "o", "")
_DOSE = "dose, nats per token"
_Difference = Callable[[LawDose], Interval]
_DIFFERENCES: dict[str, tuple[str, _Difference]] = {
    "Difference in probability": ("preserve − add", lambda row: row.intended_difference),
    "Difference in surprise": ("nats per token", lambda row: row.surprise_difference),
    "Difference in adherence": ("preserve − add", lambda row: row.adherence_difference),
}


def doses(view: View) -> Chart | None:
    """The frontier of both laws, and their differences; None without doses."""
    rows = sorted(view.results.laws, key=lambda row: row.divergence)
    if not drawable(value for row in rows for value in row.intended.values()):
        return None
    laws = list(dict.fromkeys(law for row in rows for law in row.intended))
    at = [row.divergence for row in rows]
    intended = {law: [row.intended.get(law, math.nan) for row in rows] for law in laws}
    cost = {law: [row.perplexity_ratio.get(law, math.nan) for row in rows] for law in laws}

    def emotion(axes: Axes) -> None:
        for law in laws:
            curve(axes, at, intended[law], law_look(law))
        axes.set(ylabel="probability")
        axes.set_ylim(bottom=0)
        _dose_axis(axes, at)

    def perplexity(axes: Axes) -> None:
        for law in laws:
            curve(axes, at, cost[law], law_look(law))
        axes.set(ylabel="times unsteered")
        _dose_axis(axes, at)

    def frontier(axes: Axes) -> None:
        for law in laws:
            curve(axes, cost[law], intended[law], law_look(law))
        axes.set(xlabel="perplexity, times unsteered", ylabel="probability")
        axes.set_ylim(bottom=0)

    panels = [
        Panel("Intended emotion", _ends(intended), emotion),
        Panel("Perplexity", _ends(cost), perplexity),
        Panel("Emotion against perplexity", "both laws on one frontier of probability and"
              " perplexity ratio.", frontier),
    ]  # fmt: skip
    for title, (label, measure) in _DIFFERENCES.items():
        message = "; ".join(
            f"{interval(measure(row), 3, signed=True)} at {number(row.divergence)}" for row in rows
        )
        panels.append(
            Panel(
                title,
                f"{message}.",
                lambda axes, label=label, measure=measure: _difference(axes, rows, label, measure),
            )
        )
    return Chart(
        "doses",
        "Both laws at equal dose, the KL divergence of the steered from the unsteered next-token"
        " distribution, as it was asked for. Below, the paired differences with 95 % intervals:"
        " above 0 preserve has more. More surprise is worse.",
        panels,
        [*map(law_look, laws), _DIFFERENCE],
        size=(3.6, 2.5),
    )


def _difference(axes: Axes, rows: list[LawDose], label: str, measure: _Difference) -> None:
    axes.axhline(0, color="#6b7280", linewidth=0.9)
    for row in rows:
        value = measure(row)
        if math.isfinite(value.mean):
            axes.errorbar(row.divergence, value.mean, yerr=errors(value), capsize=3,
                          color=_DIFFERENCE.colour, marker=_DIFFERENCE.marker)  # fmt: skip
    axes.set(ylabel=label)
    _dose_axis(axes, [row.divergence for row in rows])


def _dose_axis(axes: Axes, at: list[float]) -> None:
    axes.set(xlabel=_DOSE)
    if len(at) > 1 and min(at) > 0:
        ticker = need("matplotlib.ticker")
        axes.set_xscale("log")
        axes.set_xticks(at)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _ends(doses: dict[str, list[float]]) -> str:
    ends = (
        f"{law} from {number(each[0])} at the smallest dose to {number(each[-1])} at the largest"
        for law, each in doses.items()
    )
    return f"{'; '.join(ends)}."
