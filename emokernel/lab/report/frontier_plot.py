"""The picture of a calibration: the frontier of emotion against perplexity, and what was chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emokernel.choices import MAPPING
from emokernel.lab.calibrate import Calibrated, Point
from emokernel.lab.calibrate.calibrator import FRONTIER
from emokernel.lab.report.plots.chart import Chart, Look, Panel
from emokernel.lab.report.plots.lines import ZERO, Curve, lines
from emokernel.vectors.calibration import key_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "preserve absolute": "#d1495b",
    "preserve relative": "#edae49",
    "add absolute": "#30638e",
    "add relative": "#66a182",
    "wheel": "#111827",
    "axes": "#9ca3af",
}

# {law and dose: its points}
Points = Mapping[str, Sequence[Point]]


def plot_frontier(path: Path, result: Calibrated) -> None:
    """Emotion against perplexity for each law and dose, of all emotions and of each, with a star at
    strength 1.0; last, affect of the twelve states by each mapping.
    """
    by_emotion: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        if row.stage == FRONTIER:
            by_emotion[row.name][key_of(row.law, row.dose)].append(row.point)
    titled = {"all emotions, mean": _mean(by_emotion), **dict(sorted(by_emotion.items()))}
    panels = [_panel(name, points, result) for name, points in titled.items()]
    looks = [_look(key) for key in (*titled["all emotions, mean"], *MAPPING)]
    Chart("frontier", "", [*panels, _circle(result)], looks, columns=4).draw(path)


def _mean(by_emotion: Mapping[str, Points]) -> Points:
    """Of each law and dose, the mean over the emotions at each divergence that all reach."""
    means: dict[str, list[Point]] = {}
    for key in next(iter(by_emotion.values())):
        levels: dict[float, list[Point]] = defaultdict(list)
        for points in by_emotion.values():
            for point in points[key]:
                levels[point.divergence].append(point)
        reached = [level for level in levels.values() if len(level) == len(by_emotion)]
        columns = ([list(vars(point).values()) for point in level] for level in reached)
        means[key] = [Point(*np.mean(each, axis=0).tolist()) for each in columns]
    return means


def _panel(name: str, points: Points, result: Calibrated) -> Panel:
    bound = result.vectors.calibration.record["bounds"]["perplexity"]

    def finish(axes: Axes) -> None:
        axes.axvline(bound, color="0.6", linewidth=0.8, linestyle=":")
        for key in points:
            best = result.chosen[key].get(name)
            if best:
                colour = _look(key).colour
                axes.plot(best.perplexity, best.effect, "*", color=colour, markersize=11)

    curves = []
    for key, measured in points.items():
        ordered = sorted(measured, key=lambda point: point.divergence)
        effects = [point.effect for point in ordered]
        curves.append(Curve(_look(key), [point.perplexity for point in ordered], effects))
    return lines(
        name, curves, finish=finish, xlim=(0.7, 4.0), ylim=(0, 1),
        xlabel="perplexity, times unsteered", ylabel="probability",
    )  # fmt: skip


def _circle(result: Calibrated) -> Panel:
    calibration = result.vectors.calibration
    curves = []
    for mapping in MAPPING:
        circle = result.chosen.get(key_of(calibration.law, calibration.dose, mapping), {})
        angles = [float(name.split()[0]) for name in circle]
        effects = [point.effect for point in circle.values()]
        curves.append(Curve(_look(mapping), angles, effects))
    return lines(
        "twelve states", curves, levels=[(0, ZERO)],
        xlabel="angle, degrees", ylabel="affect along it", xticks=range(0, 361, 90),
    )  # fmt: skip


def _look(key: str) -> Look:
    return Look(key, _COLOURS.get(key, "#374151"), ".")
