"""Pictures of a bench: the times of a case, and ratios along an axis of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from emokernel.atomic import save_figure
from emokernel.bench.cases import ALL, Case
from emokernel.bench.results import Row
from emokernel.bench.variants import EAGER, VARIANTS, in_words
from emokernel.extras import need

# What varies, by the name of a case's field.
AXES = {
    "batch": "sequences at a time",
    "context": "prompt tokens",
    "share": "share of the batch that is steered",
    "mixes": "different mixes",
    "components": "vectors a mix",
    "layers": "steered layers",
}
_COLOURS = {
    "nothing": "#8d99a6",
    "hook_add": "#e8a33d",
    "emokernel_add": "#4f9fb8",
    "hook": "#c8553d",
    "emokernel": "#1d5a94",
}
_LINES = {"eager": "-", "compiled": "--", "graph": ":"}
_MOST_PANELS = 9


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


def varied(cases: Sequence[Case]) -> list[str]:
    """The axes of which the cases have several values."""
    return [axis for axis in AXES if len({getattr(case, axis) for case in cases}) > 1]


def along(path: Path, axis: str, done: Sequence[tuple[Case, Sequence[Row]]], title: str) -> int:
    """Ratios against one axis, a line for each variant and a panel for all else that varies.

    An interval with a dot is a ratio that was seen; one without a dot may be told as no ratio. The
    shade is the noise. How many panels there are of those that could be: the first nine.
    """
    panels = [panel for panel in _panels(axis, done) if len(panel[1]) > 1]
    if not panels:
        return 0
    shown = panels[:_MOST_PANELS]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    size = 1.5 + 3.6 * columns, 1.2 + 2.8 * lines
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, (name, points) in zip(grid, shown, strict=False):
        _panel(axes, axis, points)
        axes.set_title(name, fontsize=8)
    handles = {
        label: handle
        for axes in grid
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=8)
    left = len(panels) - len(shown)
    figure.suptitle(title + (f" ({left} more in the results)" if left else ""), fontsize=9)
    save_figure(figure, path, dpi=120)
    return len(shown)


def _panels(
    axis: str, done: Sequence[tuple[Case, Sequence[Row]]]
) -> Iterator[tuple[str, list[tuple[Any, Sequence[Row]]]]]:
    """(What the cases have in common, [(value on the axis, rows)]), in order."""

    def others(entry: tuple[Case, Sequence[Row]]) -> str:
        case = entry[0]
        told = [
            f"{name} {_shown(name, getattr(case, name))}"
            for name in varied([each for each, _ in done])
            if name != axis
        ]
        return ", ".join(told)

    for name, group in groupby(sorted(done, key=others), key=others):
        points = [(getattr(case, axis), rows) for case, rows in group]
        points = [(value, rows) for value, rows in points if any("token_ms" in row for row in rows)]
        yield name, points if axis == "layers" else sorted(points, key=lambda point: point[0])


def _panel(axes: Any, axis: str, points: Sequence[tuple[Any, Sequence[Row]]]) -> None:
    names = {row["variant"]: row for _, rows in points for row in rows if "ratio_interval" in row}
    beside = [name for name in names if not VARIANTS[name].again]
    axes.axhline(1, color="0.5", linewidth=0.8)
    for name in names:
        variant = VARIANTS[name]
        if variant.again:
            noise = [next((r["noise"] for r in rows if r["variant"] == name), None)
                     for _, rows in points]  # fmt: skip
            found = [(at, each) for at, each in enumerate(noise) if each]
            if found and variant.mode == EAGER:
                at, edges = zip(*found, strict=True)
                axes.fill_between(at, *zip(*edges, strict=True), color="0.85", label="noise")
            continue
        colour, where = _COLOURS[variant.steering], []
        for at, (_, rows) in enumerate(points):
            row = next((row for row in rows if row["variant"] == name), {})
            if "ratio_interval" in row:
                shift = (beside.index(name) + 0.5) / len(beside) - 0.5
                where.append((at + shift / 2, row))
        for at, row in where:
            axes.plot([at, at], row["ratio_interval"], color=colour, linewidth=1.5)
            if row["ratio_seen"]:
                axes.plot(at, row["ratio"][0], "o", color=colour, markersize=4)
        # The line breaks where no ratio may be told.
        seen = [row["ratio"][0] if row["ratio_seen"] else float("nan") for _, row in where]
        style = {"color": colour, "linestyle": _LINES[variant.mode], "linewidth": 0.8}
        axes.plot([at for at, _ in where], seen, alpha=0.6, label=in_words(name), **style)
    axes.set_xticks(range(len(points)), [_shown(axis, value) for value, _ in points], fontsize=8)
    axes.set_xlabel(AXES[axis], fontsize=8)
    axes.set_ylabel("ratio of times per token", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _shown(axis: str, value: Any) -> str:
    if axis == "share":
        return f"{value:.2g}"
    return "all" if value == ALL else str(value)


def _label(row: Row) -> str:
    times = row["token_ms_of_rounds"]
    label = f"{VARIANTS[row['variant']].label}\n{sorted(times)[len(times) // 2]:.3g} ms"
    if "ratio_told" not in row:
        return label
    return f"{label}, " + (f"{row['ratio'][0]:.2f}x" if row["ratio_seen"] else "no difference")
