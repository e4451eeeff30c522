"""The picture of `benchmarks/shapes.py`, drawn from its recorded results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emokernel.atomic import save_figure
from emokernel.bench.harness import read
from emokernel.extras import need

_STYLES = {"k1": "-", "k8": ":"}


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
            _panel(axes, own, counts)
            axes.set_title(f"{dtype}, {isa}" if own else f"{dtype}: as the other", fontsize=9)
            axes.set_xscale("log", base=2)
            axes.set_xticks(widths, [str(d) for d in widths], rotation=60, fontsize=7)
            axes.minorticks_off()
        row_of_panels[0].set_ylabel("% of a copy")
    for axes in panels[-1]:
        axes.set_xlabel("width of a row")
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels.flat), key=len)
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


def _panel(axes: Any, rows: list[dict], counts: list[int]) -> None:
    """The lines of one dtype and instruction set."""
    for number, count in enumerate(counts):
        own = sorted((row for row in rows if row["rows"] == count), key=lambda row: row["d"])
        for mix, style in _STYLES.items():
            axes.plot(
                [row["d"] for row in own],
                [100 * row["of_copy"][mix][0] for row in own],
                style, color=f"C{number}", marker=".", linewidth=1.2 if mix == "k1" else 0.9,
                label=f"{count} rows" if mix == "k1" else None,
            )  # fmt: skip
    axes.axhline(100, color="#8d99a6", linestyle="--", linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
