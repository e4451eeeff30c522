"""The picture of a calibration: the frontier of emotion against perplexity, and what was chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emokernel.choices import MAPPING
from emokernel.lab.calibrate import Calibrated, Point
from emokernel.lab.calibrate.calibrator import FRONTIER, LAWS
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

# So many points of the mean curve.
_MEANS = 8
# {law and dose: its points}
Points = Mapping[str, Sequence[Point]]


def plot_frontier(path: Path, result: Calibrated) -> None:
    """Emotion against perplexity for each law and dose, of all emotions and of each, with a star at
    strength 1.0; last, affect of the twelve states by each mapping.
    """
    by_emotion: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        if row.stage in (FRONTIER, LAWS):
            by_emotion[row.name][key_of(row.law, row.dose)].append(row.point)
    titled = {"all emotions, mean": _mean(by_emotion), **dict(sorted(by_emotion.items()))}
    panels = [_panel(name, points, result) for name, points in titled.items()]
    looks = [_look(key) for key in (*titled["all emotions, mean"], *MAPPING)]
    Chart("frontier", "", [*panels, _circle(result)], looks, columns=4).draw(path)


def _mean(by_emotion: Mapping[str, Points]) -> Points:
    """Of each law and dose, the mean over the emotions at divergences between those measured."""
    means: dict[str, list[Point]] = {}
    for key in dict.fromkeys(key for points in by_emotion.values() for key in points):
        measured = [points[key] for points in by_emotion.values() if key in points]
        curves = [
            np.array([(p.divergence, p.effect, p.perplexity, p.distinct) for p in ordered])
            for ordered in (sorted(of, key=lambda point: point.divergence) for of in measured)
        ]
        first, last = max(of[0, 0] for of in curves), min(of[-1, 0] for of in curves)
        means[key] = []
        for at in np.unique(np.geomspace(min(first, last), last, _MEANS)):
            columns = [[np.interp(at, of[:, 0], of[:, n]) for n in (1, 2, 3)] for of in curves]
            means[key].append(Point(0.0, at, *np.mean(columns, axis=0).tolist()))
    return means


def _panel(name: str, points: Points, result: Calibrated) -> Panel:
    bound = result.vectors.calibration.record["bounds"]["perplexity"]

    def finish(axes: Axes) -> None:
        axes.axvline(bound, color="0.6", linewidth=0.8, linestyle=":")
        for key in points:
            best = result.chosen.get(key, {}).get(name)
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
