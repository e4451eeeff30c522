"""What a token takes longer by each steered layer, peer by peer: the picture of `run.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shapes import Case
from table import case_of

from emokernel.atomic import save_figure
from emokernel.extras import need


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Draws what is steered by one mix, law add; returns ``path``. No dot: no difference seen."""
    found = [
        row
        for row in rows
        if row["row"] == "case" and "empty" not in row and case_of(row) == Case(row["batch"])
    ]
    models = list(dict.fromkeys(row["model"] for row in found))
    peers = list(dict.fromkeys(row["peer"] for row in found))
    batches = sorted({row["batch"] for row in found})
    size = 1 + 5 * max(1, len(models)), 1.5 + 0.45 * len(peers)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    every = figure.subplots(1, max(1, len(models)), sharey=True, squeeze=False)[0]
    for axes, model in zip(every, models, strict=False):
        for number, batch in enumerate(batches):
            shift = 0.2 * (number - (len(batches) - 1) / 2)
            of_batch = [r for r in found if r["model"] == model and r["batch"] == batch]
            for row in of_batch:
                middle, low, high = (1e3 * each for each in row["added_ms_per_layer"])
                place = peers.index(row["peer"]) + shift
                axes.errorbar(
                    middle, place, xerr=[[middle - low], [high - middle]], color=f"C{number}",
                    ecolor=f"C{number}", fmt="o" if row["token_seen"] else "none", markersize=4,
                )  # fmt: skip
            axes.plot([], [], "o", color=f"C{number}", label=f"batch {batch}")
        axes.axvline(0, color="0.6", linewidth=1)
        axes.set(title=model, xlabel="microseconds added by token and steered layer")
        axes.set_yticks(range(len(peers)), peers)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
    if models:
        every[0].invert_yaxis()
        every[-1].legend(frameon=False)
    save_figure(figure, path)
    return path
