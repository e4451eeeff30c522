"""The picture of a calibration: the frontier of emotion against perplexity, and what was chosen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokernel.atomic import save_figure
from emokernel.choices import MAPPING
from emokernel.extras import need
from emokernel.lab.calibrate.choose import Point
from emokernel.lab.calibrate.result import FRONTIER, Calibrated
from emokernel.vectors.calibration import key_of

_COLOURS = {
    "preserve absolute": "#d1495b",
    "preserve relative": "#edae49",
    "add absolute": "#30638e",
    "add relative": "#66a182",
}
_LARGEST_PERPLEXITY = 4.0
_COLUMNS, _HEIGHT, _LOWER_HEIGHT = 4, 2.7, 4.4

# {law and dose: its points}
Curves = Mapping[str, Sequence[Point]]


def frontier(path: Path, result: Calibrated) -> None:
    """Emotion against perplexity for each law and dose, of all emotions and of each; the candidates
    and the twelve states below. Stars are strength 1.0.
    """
    by_emotion: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        if row.stage == FRONTIER:
            by_emotion[row.name][key_of(row.law, row.dose)].append(row.point)
    titled = {"all emotions, mean": _mean(by_emotion), **dict(sorted(by_emotion.items()))}
    lines = math.ceil(len(titled) / _COLUMNS)
    size = 14, _HEIGHT * lines + _LOWER_HEIGHT
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[_HEIGHT * lines, _LOWER_HEIGHT])
    panels = upper.subplots(lines, _COLUMNS, squeeze=False).flatten()
    for panel in panels[len(titled) :]:
        panel.set_axis_off()
    for panel, (name, curves) in zip(panels, titled.items(), strict=False):
        _curves(panel, name, curves, result)
    panels[0].legend(fontsize=8, frameon=False, loc="upper left")
    upper.supxlabel("perplexity, times unsteered", fontsize=10)
    upper.supylabel("judge's probability of the emotion", fontsize=10)
    left, right = lower.subfigures(1, 2)
    _candidates(left.subplots(), result)
    _circle(right.subplots(subplot_kw={"projection": "polar"}), result)
    save_figure(figure, path, dpi=110)


def _mean(by_emotion: Mapping[str, Curves]) -> Curves:
    """Of each law and dose, the mean over the emotions at each divergence that all reach."""
    means: dict[str, list[Point]] = {}
    for key in next(iter(by_emotion.values())):
        levels: dict[float, list[Point]] = defaultdict(list)
        for curves in by_emotion.values():
            for point in curves[key]:
                levels[point.divergence].append(point)
        reached = [level for level in levels.values() if len(level) == len(by_emotion)]
        columns = ([list(vars(point).values()) for point in level] for level in reached)
        means[key] = [Point(*np.mean(each, axis=0).tolist()) for each in columns]
    return means


def _curves(panel: Any, name: str, curves: Curves, result: Calibrated) -> None:
    for key, points in curves.items():
        points = sorted(points, key=lambda point: point.divergence)
        xs, ys = ([getattr(p, axis) for p in points] for axis in ("perplexity", "effect"))
        panel.plot(xs, ys, ".-", color=_COLOURS[key], lw=1, label=key)
        best = result.chosen[key].get(name)
        if best:
            panel.plot(best.perplexity, best.effect, "*", color=_COLOURS[key], markersize=11)
    bound = result.vectors.calibration.record["bounds"]["perplexity"]
    panel.axvline(bound, color="0.6", lw=0.8, ls=":")
    panel.set_title(name, fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set(xlim=(0.7, _LARGEST_PERPLEXITY), ylim=(0, 1))


def _candidates(panel: Any, result: Calibrated) -> None:
    """The sites and layer profiles that were tried."""
    record = result.vectors.calibration.record
    scores = dict(sorted(record["candidates"].items(), key=lambda item: item[1]))
    colours = ["#d1495b" if name == record["chosen"] else "0.75" for name in scores]
    panel.barh(range(len(scores)), list(scores.values()), color=colours)
    panel.set_yticks(range(len(scores)), list(scores), fontsize=7)
    panel.set_title("Sites and layers: mean emotion within the bounds", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)


def _circle(panel: Any, result: Calibrated) -> None:
    """Affect along the asked direction of the twelve states, for each mapping."""
    calibration = result.vectors.calibration
    for number, mapping in enumerate(MAPPING):
        circle = result.chosen.get(key_of(calibration.law, calibration.dose, mapping), {})
        angles = [math.radians(float(name.split()[0])) for name in circle]
        width = math.pi / max(len(circle), 1)
        centres = [angle + width * (number - 0.5) for angle in angles]
        values = [max(0.0, point.effect) for point in circle.values()]
        panel.bar(centres, values, width=width, alpha=0.85, label=mapping)
    panel.set_title("Twelve states at strength 1.0: affect along their direction", fontsize=10)
    panel.tick_params(labelsize=8)
    if panel.patches:
        panel.legend(loc="lower left", bbox_to_anchor=(-0.25, -0.1), fontsize=9)
