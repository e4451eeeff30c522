"""What strength does to the text: perplexity, distinct 3-grams, repetition, adherence."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.evaluate.results import PROMPT, EmotionPoint, Measures
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.plots.curves import curve, drawable, level
from emokernel.lab.report.plots.looks import PROMPTED, TOPIC, law_look
from emokernel.lab.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Measure = Callable[[Measures], float]
_PERPLEXITY, _ADHERENCE = "Perplexity", "Topic adherence"
_MEASURES: dict[str, tuple[str, _Measure]] = {
    _PERPLEXITY: ("times unsteered", lambda values: values.perplexity_ratio),
    "Distinct 3-grams": ("times unsteered", lambda values: values.distinct_3_ratio),
    "Repetition": ("share of 4-grams", lambda values: values.repetition),
    _ADHERENCE: ("similarity", lambda values: values.to_unsteered.mean),
}


def measures(view: View) -> Chart | None:
    """The median over emotions at each strength, by law, and of the prompts as a line."""
    curves = (
        _by_strength(view, law, measure) for law in view.laws for _, measure in _MEASURES.values()
    )
    if not drawable(value for curve in curves for value in curve.values()):
        return None
    topic = [TOPIC[key] for key in TOPIC if key in view.topic]
    prompted = [point for name in view.emotions if (point := view.at(name, PROMPT))]
    return Chart(
        "measures",
        "What strength costs: the median over emotions, by law; a level line is the prompt. Topic"
        " adherence is the similarity with the unsteered answer.",
        [
            Panel(
                name,
                _message(view, measure),
                lambda axes, name=name: _draw(axes, view, name, prompted),
            )
            for name, (_, measure) in _MEASURES.items()
        ],
        [*map(law_look, view.laws), *([PROMPTED] if prompted else []), *topic],
        size=(2.75, 2.2),
        columns=4,
    )


def _draw(axes: Axes, view: View, name: str, prompted: list[EmotionPoint]) -> None:
    label, measure = _MEASURES[name]
    for law in view.laws:
        middles = _by_strength(view, law, measure)
        curve(axes, list(middles), list(middles.values()), law_look(law))
    level(axes, _middle(prompted, measure), PROMPTED)
    axes.set(xlabel="strength", ylabel=label)
    if name == _PERPLEXITY:
        ticker = need("matplotlib.ticker")
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    if name == _ADHERENCE:
        for key, look in TOPIC.items():
            level(axes, view.topic.get(key), look)


def _by_strength(view: View, law: str, measure: _Measure) -> dict[float, float]:
    curves = [view.curve(name, law) for name in view.emotions]
    return {
        strength: _middle(
            [point for points in curves for point in points if point.strength == strength], measure
        )
        for strength in view.strengths(law)
    }


def _middle(points: list[EmotionPoint], measure: _Measure) -> float:
    values = [value for point in points if not math.isnan(value := measure(point.measures))]
    return median(values) if values else math.nan


def _message(view: View, measure: _Measure) -> str:
    parts = []
    for law in view.laws:
        middles = _by_strength(view, law, measure)
        ends = ", ".join(f"{number(middles[at])} at {number(at)}" for at in sorted(middles)[-1:])
        usual = f"{number(middles[1.0])} at strength 1.00, " if 1.0 in middles else ""
        parts.append(f"{law} {usual}{ends}")
    return f"{'; '.join(parts)}."
