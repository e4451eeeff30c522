"""The picture of a case: the time per token by variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emokernel.atomic import save_figure
from emokernel.bench.summary import Row
from emokernel.bench.variants import VARIANTS
from emokernel.extras import need

_COLOURS = {
    "nothing": "#8d99a6",
    "hook_add": "#e8a33d",
    "hook": "#c8553d",
    "emokernel": "#1d5a94",
}


def latency(path: Path, rows: Sequence[Row], title: str) -> None:
    """Time per token of each variant of a case, by round, and its ratio where one is told."""
    rows = [row for row in rows if "token_ms" in row]
    size = 8, 0.8 + 0.75 * len(rows)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    boxes = axes.boxplot(
        [row["token_ms_of_rounds"] for row in rows], orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.5, patch_artist=True,
        boxprops={"edgecolor": "0.4"}, medianprops={"color": "black", "linewidth": 2},
    )  # fmt: skip
    for box, row in zip(boxes["boxes"], rows, strict=True):
        box.set_facecolor(_COLOURS[VARIANTS[row["variant"]].steering])
        box.set_alpha(0.6)
    axes.set_yticks(range(1, len(rows) + 1), [_label(row) for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="ms per token (box: quartiles, whiskers: 5 to 95 %)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=120)


def _label(row: Row) -> str:
    times = row["token_ms_of_rounds"]
    label = f"{VARIANTS[row['variant']].label}\n{sorted(times)[len(times) // 2]:.3g} ms"
    if "ratio" not in row:
        return label
    return f"{label}, " + (f"{row['ratio'][0]:.2f}x" if row["ratio_seen"] else "no difference")
