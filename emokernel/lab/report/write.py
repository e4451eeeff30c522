"""Writing the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.atomic import write_text
from emokernel.lab.evaluate.results import Results
from emokernel.lab.report.html import html
from emokernel.lab.report.markdown import markdown
from emokernel.lab.report.plots import charts
from emokernel.lab.report.view import View

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "results.json"


def write_report(folder: Path, results: Results) -> list[Path]:
    """Write report.html, report.md with its pictures, and results.json; the files' paths.

    ``folder`` is made if there is none. In the JSON file null stands for NaN and infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    view = View(results)
    drawn = charts(view)
    texts = {
        HTML: html(view, drawn),
        MARKDOWN: markdown(view, drawn),
        FIGURES: json.dumps(_finite(results.to_json()), indent=1, ensure_ascii=False,
                            allow_nan=False) + "\n",
    }  # fmt: skip
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *(each.write(folder) for each in drawn.values())]


def _finite(value: Any) -> Any:
    """``value`` in what JSON knows: None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
