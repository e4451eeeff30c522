"""Pictures of generation: the time per token by variant, and by batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from emokernel.atomic import save_figure
from emokernel.bench.harness import PairedRatio, compare_to
from emokernel.bench.summary import Row
from emokernel.bench.variants import VARIANTS
from emokernel.extras import need

_COLOURS = {
    "nothing": "#8d99a6",
    "hook_add": "#e8a33d",
    "hook": "#c8553d",
    "emokernel": "#1d5a94",
}
_LINES = {"eager": "-", "compiled": "--", "graph": ":"}


def latency(path: Path, milliseconds: Mapping[str, Sequence[float]], title: str) -> None:
    """Time per token of each variant, by round, and its ratio where a difference is seen.

    ``milliseconds``: of each round, paired, by the name of a variant; each is compared with its
    baseline, if that is there.
    """
    size = 8, 0.8 + 0.75 * len(milliseconds)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    names = list(milliseconds)
    boxes = axes.boxplot(
        [milliseconds[name] for name in names], orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.5, patch_artist=True,
        boxprops={"edgecolor": "0.4"}, medianprops={"color": "black", "linewidth": 2},
    )  # fmt: skip
    for box, name in zip(boxes["boxes"], names, strict=True):
        box.set_facecolor(_COLOURS[VARIANTS[name].steering])
        box.set_alpha(0.6)
    axes.set_yticks(range(1, len(names) + 1), [_label(name, milliseconds) for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="ms per token (box: quartiles, whiskers: 5 to 95 %)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=120)


def _label(name: str, milliseconds: Mapping[str, Sequence[float]]) -> str:
    times, variant = milliseconds[name], VARIANTS[name]
    label = f"{variant.label}\n{sorted(times)[len(times) // 2]:.3g} ms"
    base = milliseconds.get(variant.baseline)
    if base is None or name == variant.baseline:
        return label
    again = milliseconds.get(variant.noise)
    noise: PairedRatio | None = None if again is None else compare_to(base, again)
    against = compare_to(base, times)
    return f"{label}, {against.ratio:.2f}x" if against.is_seen(noise) else f"{label}, no difference"


def by_batch(path: Path, rows: Sequence[Row], title: str) -> None:
    """Time per token and tokens per second by batch size, a line for each variant.

    ``rows`` of one context, share and kind of mixes; the second measurements are left out.
    """
    figure = need("matplotlib.figure").Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    shown = [row for row in rows if "token_ms" in row and not VARIANTS[row["variant"]].again]
    for name in dict.fromkeys(row["variant"] for row in shown):
        own = sorted((row for row in shown if row["variant"] == name), key=lambda r: r["batch"])
        variant, batches = VARIANTS[name], [row["batch"] for row in own]
        for axes, key in zip(panels, ("token_ms", "tokens_per_second"), strict=True):
            axes.plot(
                batches, [row[key] for row in own], marker="o", label=variant.label,
                color=_COLOURS[variant.steering], linestyle=_LINES[variant.mode],
            )  # fmt: skip
    batches = sorted({row["batch"] for row in shown})
    for axes, label in zip(panels, ("ms per token", "tokens per second"), strict=True):
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.set(xlabel="batch size", ylabel=label, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle(title)
    save_figure(figure, path, dpi=120)
