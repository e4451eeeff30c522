"""Writing the report: as one HTML file, as Markdown for a model card, and the figures as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emokernel.atomic import write_text
from emokernel.extras import need
from emokernel.lab.evaluate.results import Results
from emokernel.lab.report.figures import MISSING
from emokernel.lab.report.page import charts, sections, title
from emokernel.lab.report.parts import Facts, SampleGroup, Section, Table, Text
from emokernel.lab.report.plots import Chart
from emokernel.lab.report.view import View

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "results.json"


def write_report(
    folder: Path, results: Results, name: str = "", page: Sequence[Section] = ()
) -> list[Path]:
    """Write report.html, report.md with its pictures, and results.json; the files' paths.

    ``folder`` is made if there is none. ``name`` and ``page``: another title and page than that of
    an evaluation. In the JSON file null stands for NaN and infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    view = View(results)
    name, page = name or title(view), page or sections(view)
    figures = _finite(asdict(results))
    texts = {
        HTML: html(name, page),
        MARKDOWN: markdown(name, page),
        FIGURES: json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    for file, text in texts.items():
        write_text(folder / file, text)
    return [*(folder / file for file in texts), *(each.write(folder) for each in charts(page))]


def html(title: str, page: Sequence[Section]) -> str:
    """One file that needs nothing beside it: all text is escaped, pictures are data URIs."""
    jinja2 = need("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("emokernel.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"zip": zip}
    template = environment.get_template("report.html.jinja")
    return template.render(title=title, sections=page).lstrip()


def markdown(title: str, page: Sequence[Section]) -> str:
    """GitHub-flavoured; refers to the pictures that `Chart.write` puts beside it."""
    texts = [f"# {escaped(title)}"]
    for section in page:
        texts += [f"## {section.title}", *(_WRITERS[part.kind](part) for part in section.parts)]
    return "\n\n".join(text for text in texts if text) + "\n"


def escaped(text: str) -> str:
    """Text as one line that Markdown, HTML and table cells leave as it is."""
    text = re.sub(r"([\\`*_|~#$]|\](?=[(\[]))", r"\\\1", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(text.split())


def _text(part: Text) -> str:
    return f"- {escaped(part.text)}" if part.look == "note" else escaped(part.text)


def _facts(part: Facts) -> str:
    lines = []
    for term, said, link in part.rows:
        term = f"[{escaped(term)}]({link})" if link else escaped(term)
        lines.append(f"- {term}: {escaped(said)}")
    return "\n".join([f"**{escaped(part.title)}**", "", *lines])


def _table(part: Table) -> str:
    rule = ["---", *("---" if n in part.words else "---:" for n in range(1, len(part.columns)))]
    lines = [map(escaped, part.columns), rule, *(map(escaped, row) for row in part.rows)]
    cells = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{escaped(part.caption)}**\n\n{cells}"


def _samples(part: SampleGroup) -> str:
    caption = f"{part.title} (seed {part.seed})"
    rows = [[emotion, *(text or MISSING for text in texts)] for emotion, texts in part.rows]
    ways = [way.capitalize() for way in part.ways]
    table = Table("Emotion by emotion", ["Emotion", *ways], rows, range(1, len(ways) + 1))
    alone = _facts(Facts(caption, [(*pair, "") for pair in part.alone]))
    return f"{alone}\n\n{_table(table)}" if rows else alone


def _chart(part: Chart) -> str:
    return f"![{escaped(part.message)}]({part.file})\n\n*{escaped(part.caption)}*"


_WRITERS: dict[str, Callable[..., str]] = {
    "text": _text,
    "facts": _facts,
    "table": _table,
    "goals": _table,
    "samples": _samples,
    "chart": _chart,
}


def _finite(value: Any) -> Any:
    """``value`` in what JSON knows: None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
