"""Panels of lines: curves with their intervals, and levels to read them by; how each is drawn.

Colours and marks differ, and most lightness too, for print and colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emokernel.lab.evaluate.results import BOTH, PROMPT, UNSTEERED, VECTOR, Interval
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Look, Panel
from emokernel.lab.report.view import ADD, NAMES, PRESERVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = Interval | float | None

# After Okabe and Ito's palette, some darker than there.
MODES = {
    UNSTEERED: Look(NAMES[UNSTEERED], "#8a8f98", "D"),
    PROMPT: Look(NAMES[PROMPT], "#00568f", "s"),
    VECTOR: Look(NAMES[VECTOR], "#d55e00", "o"),
    BOTH: Look(NAMES[BOTH], "#009e73", "^"),
}
_LAWS = {ADD: Look(ADD, "#a87900", "s", "--"), PRESERVE: Look(PRESERVE, "#7a1f5c", "o")}
# The prompt where it is a level beside curves.
PROMPTED = Look(NAMES[PROMPT], "#00568f", "")
CEILING = Look("ceiling (human text)", "#111827", "", "-.")
FLOOR = Look("floor (states shuffled)", "#6b7280", "", ":")
ZERO = Look("", "#6b7280", "")
# Levels of topic adherence, by their keys in what is known of the topic.
TOPIC = {
    "other_seed": Look("two unsteered answers to one opening", "#111827", "", "-."),
    "other_query": Look("unsteered answers to two openings", "#6b7280", "", ":"),
}


def law_look(law: str) -> Look:
    """The look of a law, a grey one for a law that has none."""
    return _LAWS.get(law, Look(law, "#374151", "v", "-."))


@dataclass(frozen=True)
class Curve:
    """A line through points with the band of their intervals; error bars for a look without a
    line. One that is not finite leaves a gap."""

    look: Look
    xs: Sequence[float]
    ys: Sequence[Value]

    def draw(self, axes: Axes) -> None:
        """Into ``axes``."""
        mean, low, high = parts(self.ys)
        if self.look.line:
            axes.plot(self.xs, mean, markersize=4.5, linewidth=1.6, **self.look.style)
            axes.fill_between(self.xs, low, high, color=self.look.colour, alpha=0.16, linewidth=0)
        else:
            arms = np.nan_to_num([mean - low, high - mean]).clip(0)
            axes.errorbar(self.xs, mean, yerr=arms, capsize=3, **self.look.style)

    @property
    def message(self) -> str:
        """Where it begins, ends and is highest."""
        means = parts(self.ys)[0]
        known = [(x, y) for x, y in zip(self.xs, means, strict=True) if math.isfinite(y)]
        if not known:
            return f"{self.look.label} no figures"
        ends = f"{self.look.label} {_at(known[0])}"
        if len(known) > 1:
            ends += f" to {_at(known[-1])}"
        best = max(known, key=lambda point: point[1])
        return ends if best in (known[0], known[-1]) else f"{ends}, highest {_at(best)}"


def lines(
    title: str,
    curves: Sequence[Curve],
    *,
    levels: Iterable[tuple[Value, Look]] = (),
    within: tuple[float, float] | None = None,
    finish: Callable[[Axes], None] | None = None,
    **axis: Any,
) -> Panel:
    """A panel of ``curves`` and horizontal ``levels``.

    ``within``: what its height shows at least; ``axis``: for ``Axes.set``; ``finish``: what
    else is to be done with the axes.
    """
    levels = list(levels)

    def draw(axes: Axes) -> None:
        for value, look in levels:
            _level(axes, value, look)
        for curve in curves:
            curve.draw(axes)
        axes.set(**axis)
        if within:
            low, high = axes.get_ylim()
            axes.set_ylim(min(within[0], low), max(within[1], high))
        if finish:
            finish(axes)

    return Panel(title, f"{'; '.join(curve.message for curve in curves)}.", draw)


def drawable(values: Iterable[Value]) -> bool:
    """Whether any of ``values`` is finite."""
    return bool(np.isfinite(parts(list(values))[0]).any())


def parts(values: Sequence[Value]) -> np.ndarray:
    """Means and both ends of their intervals, ``[3, n]``; nan for what is not finite."""
    nan = math.nan
    rows = [
        (v.mean, v.low, v.high) if isinstance(v, Interval) else (nan if v is None else v, nan, nan)
        for v in values
    ]
    found = np.array(rows, dtype=float).reshape(-1, 3).T
    return np.where(np.isfinite(found), found, nan)


def _level(axes: Axes, value: Value, look: Look) -> None:
    ((mean,), (low,), (high,)) = parts([value])
    if math.isfinite(mean):
        axes.axhline(mean, color=look.colour, linestyle=look.line, linewidth=1.3, zorder=1)
    if math.isfinite(low + high):
        axes.axhspan(low, high, color=look.colour, alpha=0.1, linewidth=0, zorder=0)


def _at(point: tuple[float, float]) -> str:
    return f"{number(point[1])} at {number(point[0])}"
