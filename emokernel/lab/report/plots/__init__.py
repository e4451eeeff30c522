"""The charts of the report."""

from __future__ import annotations

from emokernel.lab.report.plots.chart import Chart
from emokernel.lab.report.plots.emotions import doses, measures, strengths
from emokernel.lab.report.plots.states import circumplex, intensity

__all__ = ["Chart", "circumplex", "doses", "intensity", "measures", "strengths"]
