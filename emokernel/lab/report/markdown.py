"""The report in short, as Markdown for a model card."""

from __future__ import annotations

import re
from collections.abc import Mapping

from emokernel.lab.evaluate.results import Sample
from emokernel.lab.report import about, definitions, findings, samples, state_tables, tables
from emokernel.lab.report.plots import Chart
from emokernel.lab.report.tables import Table
from emokernel.lab.report.view import View

_SHOWN_SAMPLES = 3


def markdown(view: View, charts: Mapping[str, Chart]) -> str:
    """GitHub-flavoured; refers to the pictures that `Chart.write` puts beside it."""
    results = view.results
    parts = [
        f"# Emotion steering of {escaped(about.name(results.about))}: evaluation",
        escaped(findings.verdict(view)),
        _table(tables.goals(view)),
        "## Consistency",
        *map(escaped, findings.consistency(view)),
        _table(state_tables.headline(view)),
        _picture(charts, "circumplex"),
        _picture(charts, "intensity"),
        _table(state_tables.by_template(view)),
        _table(state_tables.states(view)),
        "## Emotions",
        *map(escaped, findings.emotions(view)),
        _table(tables.emotions(view)),
        _picture(charts, "emotions"),
        _picture(charts, "strengths"),
        _picture(charts, "measures"),
        "## Dose and laws",
        *map(escaped, findings.laws(view)),
        _table(tables.laws(view)),
        _table(tables.law_differences(view)),
        _picture(charts, "doses"),
        "## Judges",
        *map(escaped, findings.judges(view)),
        _table(tables.judges(view)),
        _table(tables.agreement(view)),
        _table(state_tables.by_judge(view)),
        "## Samples",
        *map(_sample, results.samples[:_SHOWN_SAMPLES]),
        "## What was evaluated",
        "\n".join(f"- {escaped(note)}" for note in about.notes(results.about)),
        "\n".join(
            f"- **{escaped(title)}**: "
            + "; ".join(f"{escaped(key)} {escaped(value)}" for key, value in facts)
            for title, facts in about.sections(results.about).items()
        ),
        "## Definitions",
        "Every measure is defined in [report.html](report.html), section “Definitions”. The"
        " papers: "
        + ", ".join(f"[{source.text}]({source.link})" for source, _ in definitions.SOURCES[:2])
        + ". "
        + definitions.OWN_CHOICES[0],
    ]
    return "\n\n".join(_without_empty_sections([part for part in parts if part])) + "\n"


def escaped(text: str) -> str:
    """Text as one line that Markdown, HTML and table cells leave as it is."""
    text = re.sub(r"([\\`*_|~#$]|\](?=[(\[]))", r"\\\1", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(text.split())


def _table(data: Table) -> str:
    if not data.rows:
        return ""
    return f"**{escaped(data.caption)}**\n\n{_cells(data)}"


def _cells(data: Table) -> str:
    rule = ["---", *("---" if n in data.words else "---:" for n in range(1, len(data.columns)))]
    lines = [map(escaped, data.columns), rule, *(map(escaped, row) for row in data.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sample(sample: Sample) -> str:
    group = samples.group(sample)
    data = samples.table(group)
    alone = [f"- {escaped(condition)}: {escaped(text)}" for condition, text in group.alone]
    parts = [f"**{escaped(data.caption)}**", "\n".join(alone), _cells(data) if data.rows else ""]
    return "\n\n".join(part for part in parts if part)


def _picture(charts: Mapping[str, Chart], name: str) -> str:
    if name not in charts:
        return ""
    chart = charts[name]
    return f"![{escaped(chart.message)}]({name}.png)\n\n*{escaped(chart.caption)}*"


def _without_empty_sections(parts: list[str]) -> list[str]:
    following = [*parts[1:], "## "]
    return [
        part
        for part, after in zip(parts, following, strict=True)
        if not (part.startswith("## ") and after.startswith("## "))
    ]
