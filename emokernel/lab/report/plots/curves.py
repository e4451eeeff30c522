"""Lines with intervals, as several charts draw them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from emokernel.lab.evaluate.results import Interval
from emokernel.lab.report.plots.chart import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Look) -> None:
    """A line through points; one that is not finite leaves a gap."""
    axes.plot(xs, _finite(ys), markersize=4.5, linewidth=1.6, **look.style)


def curve_with_intervals(
    axes: Axes, xs: Sequence[float], intervals: Sequence[Interval | None], look: Look
) -> None:
    """A line and the band of its intervals."""
    nothing = Interval(math.nan, math.nan, math.nan)
    known = [each or nothing for each in intervals]
    curve(axes, xs, [each.mean for each in known], look)
    bounds = (_finite([getattr(each, end) for each in known]) for end in ("low", "high"))
    axes.fill_between(xs, *bounds, color=look.colour, alpha=0.16, linewidth=0)


def level(axes: Axes, value: Interval | float | None, look: Look) -> None:
    """A horizontal line, with the band of its interval; nothing if it is not finite."""
    mean = value.mean if isinstance(value, Interval) else value
    if mean is None or not math.isfinite(mean):
        return
    axes.axhline(mean, color=look.colour, linestyle=look.line, linewidth=1.3, zorder=1)
    if isinstance(value, Interval) and math.isfinite(value.low + value.high):
        axes.axhspan(value.low, value.high, color=look.colour, alpha=0.1, linewidth=0, zorder=0)


def errors(value: Interval) -> list[list[float]]:
    """The lengths of both arms of an interval, for ``errorbar``; 0 where they are not known."""
    arms = np.nan_to_num([value.mean - value.low, value.high - value.mean], posinf=0, neginf=0)
    return [[max(0.0, float(arm))] for arm in arms]


def drawable(values: Iterable[float]) -> bool:
    """Whether any of ``values`` is finite."""
    return any(map(math.isfinite, values))


def _finite(values: Sequence[float]) -> list[float]:
    return [value if math.isfinite(value) else math.nan for value in values]
