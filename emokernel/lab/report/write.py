"""Writing the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.atomic import write_text
from emokernel.extras import need
from emokernel.lab.evaluate.results import Results
from emokernel.lab.report.markdown import markdown
from emokernel.lab.report.page import charts, sections, title
from emokernel.lab.report.parts import Section
from emokernel.lab.report.view import View

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "results.json"


def write_report(folder: Path, results: Results) -> list[Path]:
    """Write report.html, report.md with its pictures, and results.json; the files' paths.

    ``folder`` is made if there is none. In the JSON file null stands for NaN and infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    view = View(results)
    name, page = title(view), sections(view)
    figures = _finite(results.to_json())
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


def _finite(value: Any) -> Any:
    """``value`` in what JSON knows: None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
