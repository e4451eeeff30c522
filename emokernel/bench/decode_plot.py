"""The picture of a decoding comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def latency(path: Path, milliseconds: Mapping[str, Sequence[float]], title: str) -> None:
    """Time per token of each variant: every measurement, median and its ratio to unpatched."""
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.75 * len(milliseconds)), layout="constrained")
    names = list(milliseconds)
    medians = {name: sorted(times)[len(times) // 2] for name, times in milliseconds.items()}
    axes.boxplot(
        [milliseconds[name] for name in names], orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.5, patch_artist=True,
        boxprops={"facecolor": "#dbe6f1", "edgecolor": "0.4"},
        medianprops={"color": "#d1495b", "linewidth": 2},
    )  # fmt: skip
    ratios = {name: median / medians[names[0]] for name, median in medians.items()}
    labels = [
        f"{name.replace('_', ' ')}\n{medians[name]:.3g} ms, {ratios[name]:.2f}x" for name in names
    ]
    axes.set_yticks(range(1, len(names) + 1), labels)
    axes.invert_yaxis()
    axes.set(xlabel="ms per token (box: quartiles, whiskers: 5 to 95 %)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
