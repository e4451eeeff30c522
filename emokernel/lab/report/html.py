"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emokernel.extras import need
from emokernel.lab.report import about, definitions, findings, samples, state_tables, tables
from emokernel.lab.report.plots import Chart
from emokernel.lab.report.view import View


def html(view: View, charts: Mapping[str, Chart]) -> str:
    """The page; all text that models wrote is escaped, pictures are data URIs."""
    jinja2 = need("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("emokernel.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"zip": zip}
    page = environment.get_template("report.html.jinja")
    return page.render(
        name=about.name(view.results.about),
        about=about.sections(view.results.about),
        notes=about.notes(view.results.about),
        verdict=findings.verdict(view),
        goals=view.results.goals,
        held=tables.HELD,
        findings={
            "consistency": findings.consistency(view),
            "emotions": findings.emotions(view),
            "laws": findings.laws(view),
            "judges": findings.judges(view),
        },
        charts=_Drawn(charts),
        tables=_tables(view),
        samples=[samples.group(each) for each in view.results.samples],
        definitions=definitions.DEFINITIONS,
        sources=definitions.SOURCES,
        own_choices=definitions.OWN_CHOICES,
    ).lstrip()


class _Drawn(dict):  # type: ignore[type-arg]
    """Charts by name; None for one that there was nothing to draw for."""

    def __missing__(self, name: str) -> None:
        return None


def _tables(view: View) -> dict[str, Any]:
    return {
        "headline": state_tables.headline(view),
        "by_template": state_tables.by_template(view),
        "by_intensity": state_tables.by_intensity(view),
        "states": state_tables.states(view),
        "labels": state_tables.labels(view),
        "ceilings": [
            {"judge": each.judge, "least": each.least, "table": state_tables.ceiling(each)}
            for each in view.results.ceilings
        ],
        "everything": [
            {"judge": judge, "table": state_tables.everything(view, judge)} for judge in view.judges
        ],
        "emotions": tables.emotions(view),
        "strengths": [tables.strengths(view, law) for law in view.laws],
        "monotone": tables.monotone(view),
        "laws": tables.laws(view),
        "law_differences": tables.law_differences(view),
        "agreement": tables.agreement(view),
        "judges": tables.judges(view),
        "by_judge": state_tables.by_judge(view),
    }
