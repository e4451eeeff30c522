"""Pictures of a calibration: the frontier of emotion against perplexity, and the circle."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokernel.calibrate.choose import Point
from emokernel.calibrate.run import FRONTIER, Calibrated
from emokernel.vectors.calibration import key_of

_COLOURS = {
    "preserve absolute": "#d1495b",
    "preserve relative": "#edae49",
    "add absolute": "#30638e",
    "add relative": "#66a182",
}
_LARGEST_PERPLEXITY = 4.0
_COLUMNS = 4


def frontier(path: Path, result: Calibrated) -> None:
    """Emotion against perplexity for each emotion and each law and dose, the chosen points marked.

    The first panel is the mean over the emotions, at equal divergence.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        if row.stage == FRONTIER:
            curves[row.name][key_of(row.law, row.dose)].append(row.point)
    emotions = sorted(curves)
    circle = [key for key in result.chosen if key.split()[-1] in ("wheel", "axes")]
    count = len(emotions) + 1
    lines = math.ceil(count / _COLUMNS)
    figure = plt.figure(figsize=(14, 2.9 * lines + 4.2 * bool(circle)), layout="constrained")
    upper, lower = figure, None
    if circle:
        upper, lower = figure.subfigures(2, 1, height_ratios=[2.9 * lines, 4.2])
    bound = result.vectors.calibration.record["bounds"]["perplexity"]
    panels = upper.subplots(lines, _COLUMNS, squeeze=False, sharex=True).flat
    for panel, name in zip(panels, ["all emotions, mean", *emotions], strict=False):
        of = curves[name] if name in curves else _means(curves)
        for key, points in of.items():
            points = sorted(points, key=lambda point: point.divergence)
            xs = [min(point.perplexity, _LARGEST_PERPLEXITY) for point in points]
            panel.plot(xs, [p.effect for p in points], ".-", color=_COLOURS[key], lw=1, label=key)
            best = result.chosen.get(key, {}).get(name)
            if best:
                panel.plot(best.perplexity, best.effect, "*", color=_COLOURS[key], markersize=11)
        panel.axvline(bound, color="0.6", lw=0.8, ls=":")
        panel.set_title(name, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(0.8, _LARGEST_PERPLEXITY + 0.05)
    for panel in list(panels):
        panel.set_axis_off()
    first = upper.axes[0]
    upper.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    upper.supxlabel("perplexity, times unsteered", fontsize=10)
    upper.supylabel("judge's probability of the emotion", fontsize=10)
    if circle:
        _circle(lower, {key: result.chosen[key] for key in circle})
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _means(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> dict[str, list[Point]]:
    """Of each law and dose, the mean over the emotions at each divergence that all reach."""
    means: dict[str, list[Point]] = {}
    for key in next(iter(curves.values())):
        by_level: dict[float, list[Point]] = defaultdict(list)
        for of in curves.values():
            for point in of.get(key, ()):
                by_level[point.divergence].append(point)
        means[key] = [
            Point(*(float(np.mean([getattr(p, field) for p in of])) for field in vars(of[0])))
            for of in by_level.values()
            if len(of) == len(curves)
        ]
    return means


def _circle(figure: Any, chosen: Mapping[str, Mapping[str, Point]]) -> None:
    """Affect along the asked direction and strength, for the twelve states and each mapping."""
    figure.suptitle("The twelve states at strength 1.0", fontsize=11)
    panels = figure.subplots(1, 2, subplot_kw={"projection": "polar"})
    for panel, field, title in zip(
        panels, ("effect", "perplexity"),
        ("affect along the asked direction", "perplexity, times unsteered"), strict=True,
    ):  # fmt: skip
        for number, (key, of) in enumerate(chosen.items()):
            angles = [2 * math.pi * (n + 0.25 + 0.5 * number) / len(of) for n in range(len(of))]
            centres = [angle - math.pi / len(of) for angle in angles]
            values = [getattr(point, field) for point in of.values()]
            panel.bar(centres, values, width=math.pi / len(of), alpha=0.8, label=key.split()[-1])
        panel.set_title(title, fontsize=10)
        panel.tick_params(labelsize=8)
    panels[0].legend(loc="lower left", bbox_to_anchor=(-0.25, -0.1), fontsize=9)
