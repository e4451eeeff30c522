"""The intended emotion: bars by condition, and curves against strength."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emokernel.lab.evaluate.results import PROMPT, UNSTEERED, VECTOR, Interval
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Chart, Panel, shortened
from emokernel.lab.report.plots.curves import curve_with_intervals, drawable, errors, level
from emokernel.lab.report.plots.looks import MODES, PROMPTED, law_look
from emokernel.lab.report.tables import prompted_by
from emokernel.lab.report.view import NAMES, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONDITIONS = (UNSTEERED, PROMPT, VECTOR)
_BARS_OF_A_PANEL = 8


def emotions(view: View) -> Chart | None:
    """Bars of each emotion unsteered, by prompt and by vector at strength 1.0, strongest first."""
    names = sorted(view.emotions, key=lambda name: -_mean(view, name, VECTOR))
    bars = [view.intended(view.at(name, mode)) for name in names for mode in _CONDITIONS]
    if not drawable(bar.mean for bar in bars if bar):
        return None
    count = math.ceil(len(names) / _BARS_OF_A_PANEL)
    size = math.ceil(len(names) / count)
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    reach = _reach(bars)
    return Chart(
        "emotions",
        f"Probability of the intended emotion by the judge {view.judge}, with 95 % intervals;"
        f" vectors at strength 1.0{prompted_by(view)}.",
        [
            Panel(
                "Emotions" if count == 1 else f"Emotions, part {part} of {count}",
                _bars_message(view, group),
                lambda axes, group=group: _bars(axes, view, group, reach),
            )
            for part, group in enumerate(groups, 1)
        ],
        [replace(MODES[mode], marker="s", line="") for mode in _CONDITIONS],
        size=(3.9, 0.7 + 0.46 * size),
        columns=2,
    )


def strengths(view: View) -> Chart | None:
    """Small multiples: each emotion against strength under both laws, the prompt as a line."""
    bars = [
        view.intended(point)
        for name in view.emotions
        for law in view.laws
        for point in view.curve(name, law)
    ]
    if not drawable(each.mean for each in bars if each):
        return None
    reach = _reach(bars)

    prompted = any(view.at(name, PROMPT) for name in view.emotions)

    def draw(axes: Axes, name: str) -> None:
        level(axes, view.intended(view.at(name, PROMPT)), PROMPTED)
        for law in view.laws:
            points = view.curve(name, law)
            xs = [point.strength for point in points]
            curve_with_intervals(axes, xs, list(map(view.intended, points)), law_look(law))
        axes.set(ylim=(0, reach))

    return Chart(
        "strengths",
        f"Probability of the intended emotion by the judge {view.judge} against strength, with"
        " 95 % intervals, in panels of one scale. Strength 1.0 is the calibrated strength;"
        " a level line is the prompt.",
        [
            Panel(name, _curve_message(view, name), lambda axes, name=name: draw(axes, name))
            for name in view.emotions
        ],
        [*map(law_look, view.laws), *([PROMPTED] if prompted else [])],
        size=(1.8, 1.5),
        columns=6,
    )


def _mean(view: View, name: str, mode: str) -> float:
    value = view.intended(view.at(name, mode))
    return value.mean if value and math.isfinite(value.mean) else 0.0


def _reach(bars: Iterable[Interval | None]) -> float:
    highs = [each.high for each in bars if each and math.isfinite(each.high)]
    return min(1.0, math.ceil(10.5 * max(highs, default=1.0)) / 10)


def _bars(axes: Axes, view: View, names: Sequence[str], reach: float) -> None:
    for offset, mode in zip((-0.27, 0, 0.27), _CONDITIONS, strict=True):
        for place, name in enumerate(names):
            value = view.intended(view.at(name, mode))
            if value and math.isfinite(value.mean):
                axes.barh(
                    place + offset, value.mean, 0.25, color=MODES[mode].colour,
                    xerr=errors(value), error_kw={"elinewidth": 0.9, "ecolor": "#1f2937"},
                )  # fmt: skip
    axes.set_yticks(range(len(names)), [shortened(name, 18) for name in names])
    axes.set(xlim=(0, reach), ylim=(len(names) - 0.5, -0.5), xlabel="probability")
    axes.grid(axis="y", visible=False)


def _bars_message(view: View, names: Sequence[str]) -> str:
    def text(name: str) -> str:
        values = ((mode, view.intended(view.at(name, mode))) for mode in _CONDITIONS)
        return f"{name} " + ", ".join(
            f"{NAMES[mode]} {number(each.mean)}" for mode, each in values if each
        )

    return f"{'; '.join(map(text, names))}."


def _curve_message(view: View, name: str) -> str:
    parts = []
    for law in view.laws:
        known = [
            (value.mean, point.strength)
            for point in view.curve(name, law)
            if (value := view.intended(point)) and math.isfinite(value.mean)
        ]
        if known:
            best, strength = max(known)
            parts.append(f"{law} highest, {number(best)}, at strength {number(strength)}")
    return f"{'; '.join(parts) or 'no figures'}."
