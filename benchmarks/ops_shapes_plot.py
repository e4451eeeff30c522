"""The picture of `benchmarks/ops_shapes.py`, drawn from its recorded results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emokernel.atomic import save_figure
from emokernel.bench.harness import read
from emokernel.extras import need

_LINES = {"k1": "-", "k8": ":"}
# From few rows to many.
_COLOURS = ("#c9c9c9", "#9ec9e2", "#4f9fb8", "#2b7bba", "#123c69", "#c8553d")


def plot_shapes(path: Path) -> Path:
    """Draws the plan "wide" of the last run beside its results; returns the picture.

    The share of a copy by width, a line for each number of rows, a panel for each dtype and
    instruction set. RuntimeError where that run has no such plan.
    """
    rows = [row for row in read(path) if row["plan"] == "wide"]
    if not rows:
        raise RuntimeError(f"the last run in {path} has no plan `wide` to draw")
    dtypes, levels, counts = (
        list(dict.fromkeys(row[key] for row in rows)) for key in ("dtype", "isa", "rows")
    )
    widths = sorted({row["d"] for row in rows})
    size = 1 + 4.2 * len(levels), 1 + 2.9 * len(dtypes)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(dtypes), len(levels), squeeze=False, sharex=True, sharey=True)
    for row_of_panels, dtype in zip(panels, dtypes, strict=True):
        for axes, isa in zip(row_of_panels, levels, strict=True):
            own = [row for row in rows if (row["dtype"], row["isa"]) == (dtype, isa)]
            axes.set_visible(bool(own))
            _panel(axes, own, counts, widths)
            axes.set_title(f"{dtype}, {isa}", fontsize=9)
            axes.set_xticks(range(len(widths)), [str(d) for d in widths], rotation=45, fontsize=8)
        row_of_panels[0].set_ylabel("% of a copy")
    for axes in panels[-1]:
        axes.set_xlabel("width of a row")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    about = rows[0]["machine"]
    figure.suptitle(
        f"add + steer + RMSNorm: {about['cpu']}, {rows[0]['threads']} threads, torch"
        f" {rows[0]['versions']['torch']} (solid: 1 vector, dotted: mix of 8)",
        fontsize=10,
    )
    picture = path.with_suffix(".png")
    save_figure(figure, picture, dpi=110)
    return picture


def _panel(axes: Any, rows: list[dict], counts: list[int], widths: list[int]) -> None:
    """The lines of one dtype and instruction set, widths side by side."""
    for number, count in enumerate(counts):
        own = sorted((row for row in rows if row["rows"] == count), key=lambda row: row["d"])
        places = [widths.index(row["d"]) for row in own]
        colour = _COLOURS[number % len(_COLOURS)]
        label = "1 row" if count == 1 else f"{count} rows"
        for mix, line in _LINES.items():
            shares = [100 * row["of_copy"][mix][0] for row in own]
            axes.plot(places, shares, line, color=colour, marker=".", linewidth=1.1, label=label)
            label = None
    axes.axhline(100, color="#8d99a6", linestyle="--", linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
