"""The report as Markdown, for a model card."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from emokernel.lab.report.figures import MISSING
from emokernel.lab.report.parts import Facts, SampleGroup, Section, Table, Text
from emokernel.lab.report.plots import Chart


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
