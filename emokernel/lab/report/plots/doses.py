"""Add against preserve at equal dose."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.report.plots.chart import Chart, Look
from emokernel.lab.report.plots.lines import Curve, drawable, lines
from emokernel.lab.report.plots.looks import ZERO, law_look
from emokernel.lab.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIFFERENCE = Look("preserve less add, 95 % interval", "#111827", "o", "")


def doses(view: View) -> Chart | None:
    """The frontier of both laws, and their differences; None without doses."""
    rows = view.results.laws
    if not drawable(value for row in rows for value in row.intended.values()):
        return None
    laws = dict.fromkeys(law for row in rows for law in row.intended)
    at = [row.divergence for row in rows]
    intended = {law: [row.intended.get(law) for row in rows] for law in laws}
    cost = {law: [row.perplexity_ratio.get(law) for row in rows] for law in laws}

    def curves(measure: dict[str, list[float | None]]) -> list[Curve]:
        return [Curve(law_look(law), at, measure[law]) for law in laws]

    dosed = partial(lines, finish=partial(_dose_axis, at=at), xlabel="dose, nats per token")
    differences = {
        "Difference in probability": ("preserve − add", [r.intended_difference for r in rows]),
        "Difference in surprise": ("nats per token", [r.surprise_difference for r in rows]),
        "Difference in adherence": ("preserve − add", [r.adherence_difference for r in rows]),
    }
    return Chart(
        "doses",
        "Both laws at equal dose, the KL divergence of the steered from the unsteered next-token"
        " distribution, as it was asked for. Below, the paired differences with 95 % intervals:"
        " above 0 preserve has more. More surprise is worse.",
        [
            dosed("Intended emotion", curves(intended), ylabel="probability", ylim=(0, None)),
            dosed("Perplexity", curves(cost), ylabel="times unsteered"),
            lines(
                "Emotion against perplexity",
                [Curve(law_look(law), cost[law], intended[law]) for law in laws],
                xlabel="perplexity, times unsteered", ylabel="probability", ylim=(0, None),
            ),
            *(
                dosed(title, [Curve(_DIFFERENCE, at, found)], levels=[(0, ZERO)], ylabel=label)
                for title, (label, found) in differences.items()
            ),
        ],
        [*map(law_look, laws), _DIFFERENCE],
        size=(3.6, 2.5),
    )  # fmt: skip


def _dose_axis(axes: Axes, at: list[float]) -> None:
    if len(at) > 1 and min(at) > 0:
        ticker = need("matplotlib.ticker")
        axes.set_xscale("log")
        axes.set_xticks(at)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
