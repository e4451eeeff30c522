"""The tables of the report."""

from __future__ import annotations

from emokernel.lab.report.tables.emotions import costs, emotions, laws
from emokernel.lab.report.tables.judges import agreement, judged, judges
from emokernel.lab.report.tables.states import conditions, labels, states
from emokernel.lab.report.tables.texts import goals, samples

__all__ = [
    "agreement",
    "conditions",
    "costs",
    "emotions",
    "goals",
    "judged",
    "judges",
    "labels",
    "laws",
    "samples",
    "states",
]
