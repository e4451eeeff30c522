"""The picture of `benchmarks/ops.py`, drawn from its recorded results."""

from __future__ import annotations

from pathlib import Path

from emokernel.atomic import save_figure
from emokernel.bench.harness import read
from emokernel.extras import need

_COLOURS = {
    "copy": "#8d99a6",
    "none": "#9ec9e2",
    "k1": "#2b7bba",
    "k3": "#1d5a94",
    "k8": "#123c69",
    "compiled": "#e8a33d",
    "eager": "#c8553d",
}
_LABELS = {
    "copy": "copy",
    "none": "none steered",
    "k1": "1 vector",
    "k3": "mix of 3",
    "k8": "mix of 8",
    "compiled": "torch.compile",
    "eager": "eager torch",
}


def plot_ops(path: Path) -> Path:
    """Draws the last run of `benchmarks/ops.py` beside its results; returns the picture.

    Left, the share of a copy's bandwidth that each variant reaches; right, its time.
    """
    rows = [row for row in read(path) if row["benchmark"] == "throughput"]
    # Runs of before there was a choice have no ISA.
    measured = {(row.get("isa"), *_size(row), row["variant"]): row for row in rows}
    levels = list(dict.fromkeys(isa for isa, *_ in measured if isa)) or [None]
    sizes = [(isa, *size) for size in dict.fromkeys(map(_size, rows)) for isa in levels]
    variants = [name for name in _COLOURS if any(row["variant"] == name for row in rows)]
    figure = need("matplotlib.figure").Figure(figsize=(13, 4.6), layout="constrained")
    share, time = figure.subplots(1, 2)
    width = 0.84 / len(variants)
    for number, name in enumerate(variants):
        places = [i + (number - (len(variants) - 1) / 2) * width for i in range(len(sizes))]
        cells = [
            measured.get((isa, *size, name)) or measured[None, *size, name] for isa, *size in sizes
        ]
        style = {"width": 0.92 * width, "color": _COLOURS[name], "label": _LABELS[name]}
        if name != "copy":
            heights = [100 * cell["others_over_this"]["copy"][0] for cell in cells]
            share.bar(places, heights, **style)
        times = [1e3 * cell["seconds"] for cell in cells]
        time.bar(places, times, **style)
    share.axhline(100, color="#8d99a6", linestyle="--", linewidth=1)
    share.text(-0.5, 101, "copy", color="#5d6873", fontsize=8)
    share.set_ylabel("bandwidth, % of a copy of the same bytes")
    time.set_yscale("log")
    time.set_ylabel("milliseconds (log scale)")
    for axes in (share, time):
        axes.set_xticks(range(len(sizes)), [_label(*size) for size in sizes])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    time.legend(fontsize=8, ncols=2, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.0))
    time.set_ylim(top=time.get_ylim()[1] * 4)
    about = rows[0]["machine"]
    figure.suptitle(
        f"add + steer + RMSNorm in one operation: {about['cpu']}, {about['threads']} threads,"
        f" torch {rows[0]['versions']['torch']}"
    )
    picture = path.with_suffix(".png")
    save_figure(figure, picture, dpi=130)
    return picture


def _size(row: dict) -> tuple[int, int, str]:
    return row["rows"], row["d"], row["dtype"]


def _label(isa: str | None, rows: int, d: int, dtype: str) -> str:
    return f"{dtype}\n{rows} x {d}" + (f"\n{isa}" if isa else "")
