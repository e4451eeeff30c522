"""The tables of the report, by what they are about."""

from emokernel.lab.report.tables.of_emotions import (
    emotions,
    law_differences,
    laws,
    monotone,
    prompted_by,
    strengths,
)
from emokernel.lab.report.tables.of_judges import HELD, agreement, goals, judges
from emokernel.lab.report.tables.of_states import (
    by_intensity,
    by_judge,
    by_template,
    ceiling,
    everything,
    headline,
    labels,
    share,
    states,
)
from emokernel.lab.report.tables.table import Table

__all__ = [
    "HELD",
    "Table",
    "agreement",
    "by_intensity",
    "by_judge",
    "by_template",
    "ceiling",
    "emotions",
    "everything",
    "goals",
    "headline",
    "judges",
    "labels",
    "law_differences",
    "laws",
    "monotone",
    "prompted_by",
    "share",
    "states",
    "strengths",
]
