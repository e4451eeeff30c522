"""What is told of the figures: a table, where emokernel stands, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emokernel.atomic import save_figure
from emokernel.bench.numerics.faults import ZERO_SIGN
from emokernel.bench.numerics.formula import LAWS
from emokernel.bench.numerics.judge import BETTER, COMPARED, EQUAL, WORSE
from emokernel.extras import need

Row = dict[str, Any]

_COLOURS = {"float32": "#8d99a6", "bfloat16": "#c8553d", "float16": "#1d5a94"}
_LAWS = {
    "add": "add: h + v",
    "preserve": "preserve: back to |h|",
    "shrink": "back to |h| where it grew",
    "batch": "back to |h| if a row of the batch grew",
    "relative": "relative: v as long as asked in |h|",
    "rotate": "turned towards v",
}


def table(rows: Sequence[Row]) -> str:
    """Rows of one dtype: a line for each formula, law by law; mean errors, and the largest norm."""
    first = rows[0]
    lines = [
        f"{first['dtype']}, rows: {first['rows']} ({first['count']} of width {first['width']} in"
        f" {first['layers']} layers)",
        f"  {'':<36}{'norm max':>10}{'norm':>10}{'vector':>10}{'drift':>10}{'of norms':>10}"
        "  emokernel is",
    ]
    for law in LAWS:
        of_law = [row for row in rows if row["law"] == law]
        if of_law:
            lines.append(f" {_LAWS[law]}")
        for row in of_law:
            figures = "".join(
                _figure(row, key)
                for key in ("norm_error_largest", *(f"{key}_mean" for key in COMPARED))
            )
            lines.append(f"  {row['formula']:<36}{figures}  {_told(row)}".rstrip())
    return "\n".join(lines)


def _figure(row: Row, key: str) -> str:
    if key not in row:
        return f"{'':>10}"
    return f"{'not finite' if row[key] is None else format(row[key], '.1e'):>10}"


def _told(row: Row) -> str:
    told = []
    verdict = row.get("emokernel_is")
    if verdict is not None:
        for word in (BETTER, WORSE):
            keys = [key for key, is_so in verdict.items() if is_so == word]
            if keys:
                told.append(f"{word}: {', '.join(_times(row, key) for key in keys)}")
        told = told or [f"not run: {row['not_run']}" if "not_run" in row else EQUAL]
    if row.get("not_finite"):
        told.append("edges: " + ", ".join(f"{k} {v}" for k, v in row["not_finite"].items()))
    if changed := _changed(row):
        told.append(f"changes rows left alone: {', '.join(changed)}")
    return "; ".join(told)


def _times(row: Row, key: str) -> str:
    """The figure in words, and how many times emokernel's it is."""
    times = row["times_emokernel"].get(key)
    return COMPARED[key] + ("" if times is None else f" {times:.1f}x")


def _changed(row: Row) -> list[str]:
    return [kind for kind in row.get("changed_rows") or () if kind != ZERO_SIGN]


def standing(rows: Sequence[Row]) -> str:
    """One line for each dtype and kind of rows: whom emokernel is better than, equal to, worse.

    Better in something and worse in nothing is better; both is "mixed". Then, of each dtype, who
    gives what is not finite for a row at the edge, and who changes rows that ask for nothing.
    """
    lines = []
    for kind, dtype in dict.fromkeys((row["rows"], row["dtype"]) for row in rows):
        those = [row for row in rows if (row["rows"], row["dtype"]) == (kind, dtype)]
        groups: dict[str, list[str]] = {BETTER: [], EQUAL: [], WORSE: [], "mixed": []}
        for row in those:
            if row.get("emokernel_is"):
                groups[_group(set(row["emokernel_is"].values()))].append(row["formula"])
        told = [
            f"{word} ({len(names)}): {'; '.join(names)}" for word, names in groups.items() if names
        ]
        lines.append(f"{dtype}, {kind}: emokernel is {' | '.join(told)}")
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        those = [row for row in rows if row["dtype"] == dtype]
        for words, has in (
            ("not finite, or an error, where the law is finite", lambda row: row.get("not_finite")),
            ("change rows that ask for nothing", _changed),
        ):
            names = dict.fromkeys(row["formula"] for row in those if has(row))
            lines.append(f"{dtype}, {words}: {'; '.join(names) or 'none'}")
    return "\n".join(lines)


def _group(verdict: set[str]) -> str:
    if {BETTER, WORSE} <= verdict:
        return "mixed"
    return BETTER if BETTER in verdict else WORSE if WORSE in verdict else EQUAL


def picture(path: Path, rows: Sequence[Row], title: str) -> None:
    """Mean norm error, vector error and drift of every formula, in the halves; the law's limit."""
    rows = [row for row in rows if row["dtype"] != "float32"]
    labels = list(dict.fromkeys((row["law"], row["formula"]) for row in rows))
    keys = ("norm_error", "vector_error", "drift")
    size = 12, 1.2 + 0.26 * len(labels)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True)
    for axes, key in zip(panels, keys, strict=True):
        for dtype, colour in _COLOURS.items():
            points = [
                (row[f"{key}_mean"], labels.index((row["law"], row["formula"])))
                for row in rows
                if row["dtype"] == dtype and row.get(f"{key}_mean")
            ]
            if points:
                axes.scatter(*zip(*points, strict=True), s=28, color=colour, label=dtype)
        for number, (law, _) in enumerate(labels):
            if number and law != labels[number - 1][0]:
                axes.axhline(number - 0.5, color="0.8", linewidth=1)
        axes.set(xscale="log", xlabel=f"{COMPARED[key]}: mean relative error", axisbelow=True)
        axes.xaxis.set_minor_formatter("")
        axes.grid(axis="both", which="both", color="0.92")
        axes.margins(y=0.02)
        axes.spines[["top", "right"]].set_visible(False)
    names = [f"{name} ({law})" for law, name in labels]
    panels[0].set_yticks(range(len(labels)), names, fontsize=8)
    for tick, name in zip(panels[0].get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name.startswith("emokernel ") else "normal")
    panels[0].invert_yaxis()
    panels[0].legend(frameon=False)
    figure.suptitle(title)
    save_figure(figure, path, dpi=110)
