"""The charts of the report."""

from __future__ import annotations

from collections.abc import Callable

from emokernel.lab.report.plots.chart import Chart
from emokernel.lab.report.plots.circumplex import circumplex
from emokernel.lab.report.plots.doses import doses
from emokernel.lab.report.plots.emotions import emotions, strengths
from emokernel.lab.report.plots.headline import headline
from emokernel.lab.report.plots.intensity import intensity
from emokernel.lab.report.plots.measures import measures
from emokernel.lab.report.view import View

_CHARTS: tuple[Callable[[View], Chart | None], ...] = (
    headline,
    circumplex,
    intensity,
    emotions,
    strengths,
    measures,
    doses,
)


def charts(view: View) -> dict[str, Chart]:
    """{name: chart} of all that there is something to draw for."""
    drawn = (make(view) for make in _CHARTS)
    return {chart.name: chart for chart in drawn if chart is not None}


__all__ = ["Chart", "charts"]
