"""The emotions: the intended one against strength, what strength costs, both laws at equal dose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from emokernel.extras import need
from emokernel.lab.evaluate.results import PROMPT, EmotionPoint, Measures
from emokernel.lab.report.figures import counted
from emokernel.lab.report.plots.chart import Chart, Look, Panel
from emokernel.lab.report.plots.lines import (
    PROMPTED,
    TOPIC,
    ZERO,
    Curve,
    Value,
    drawable,
    law_look,
    lines,
    parts,
)
from emokernel.lab.report.view import View, of_sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIFFERENCE = Look("preserve less add, 95 % interval", "#111827", "o", "")
_PERPLEXITY = "Perplexity"
_MEASURES: dict[str, tuple[str, Callable[[Measures], float]]] = {
    _PERPLEXITY: ("times unsteered", lambda values: values.perplexity_ratio),
    "Distinct 3-grams": ("times unsteered", lambda values: values.distinct_3_ratio),
    "Repetition": ("share of 4-grams", lambda values: values.repetition),
    "Texts that loop": ("share of texts", lambda values: values.looping),
    "Topic adherence": ("similarity", lambda values: values.to_unsteered.mean),
    "Sentence similarity": ("similarity", lambda values: of_sentences(values, "to_unsteered")),
    "Topic kept": ("times unsteered", lambda values: of_sentences(values, "kept")),
}
# What is known of unsteered answers, by the panels that show it; what panels of the topic are.
_ANCHORS = {"Topic adherence": "topic", "Sentence similarity": "sentences"}
_TOLD = {
    "Topic adherence": "the similarity with the unsteered answer, by hidden states of the model",
    "Sentence similarity": "that similarity by a sentence encoder",
    "Topic kept": "the encoder's similarity with the question as a share of that of the unsteered"
    " answers",
}


def strengths(view: View) -> Chart | None:
    """Small multiples: each emotion against strength under every law, the prompt as a line."""
    curves = {
        name: [
            Curve(law_look(law), [p.strength for p in points], list(map(view.intended, points)))
            for law in view.laws
            if (points := view.curve(name, law))
        ]
        for name in view.known
    }
    values = [value for each in curves.values() for curve in each for value in curve.ys]
    if not drawable(values):
        return None
    prompted = {name: view.intended(view.at(name, PROMPT)) for name in curves}
    highs = [high for high in parts(values)[2] if math.isfinite(high)]
    reach = min(1.0, math.ceil(10.5 * max(highs, default=1.0)) / 10)
    return Chart(
        "strengths",
        f"Probability of the intended emotion by the judge {view.judge} against strength, with"
        " 95 % intervals, in panels of one scale. Strength 1.0 is the calibrated strength"
        + ("; a level line is the prompt." if any(prompted.values()) else "."),
        [
            lines(name, each, levels=[(prompted[name], PROMPTED)], ylim=(0, reach))
            for name, each in curves.items()
        ],
        [*map(law_look, view.laws), *([PROMPTED] if any(prompted.values()) else [])],
        size=(1.8, 1.5),
        columns=6,
    )


def measures(view: View) -> Chart | None:
    """The median over emotions at each strength, by law, and of the prompts as a line."""
    prompted = [point for name in view.known if (point := view.at(name, PROMPT))]
    panels: list[Panel] = []
    anchored: set[str] = set()
    for name, (label, measure) in _MEASURES.items():
        curves = [_by_strength(view, law, measure) for law in view.laws]
        values = [value for curve in curves for value in curve.ys]
        if not drawable(values):
            continue
        levels: list[tuple[Value, Look]] = [(_middle(prompted, measure), PROMPTED)]
        known = view.anchors(_ANCHORS.get(name, ""))
        levels += [(known[key], look) for key, look in TOPIC.items() if key in known]
        anchored |= known.keys()
        finish = _log_times if name == _PERPLEXITY else None
        height = {"ylim": (0, None)} if label.startswith("share") else {}
        panels.append(lines(
            name, curves, levels=levels, finish=finish, xlabel="strength", ylabel=label, **height
        ))  # fmt: skip
    if not panels:
        return None
    of_law = {law: sum(bool(view.curve(name, law)) for name in view.known) for law in view.laws}
    if len(set(of_law.values())) > 1:
        numbers = (f"{law} {counted(count, 'emotion')}" for law, count in of_law.items())
        over = f" ({', '.join(numbers)}, so compare the laws by their doses)"
    else:
        over = ""
    return Chart(
        "measures",
        f"What strength costs: the median over emotions, by law{over}"
        + ("; a level line is the prompt." if prompted else ".")
        + "".join(f" {p.title} is {_TOLD[p.title]}." for p in panels if p.title in _TOLD),
        panels,
        [
            *map(law_look, view.laws),
            *([PROMPTED] if prompted else []),
            *(look for key, look in TOPIC.items() if key in anchored),
        ],
        size=(2.75, 2.2),
        columns=4,
    )


def _by_strength(view: View, law: str, measure: Callable[[Measures], float]) -> Curve:
    points = [point for name in view.known for point in view.curve(name, law)]
    strengths = sorted({point.strength for point in points})
    middles = [_middle([p for p in points if p.strength == at], measure) for at in strengths]
    return Curve(law_look(law), strengths, middles)


def _middle(points: Sequence[EmotionPoint], measure: Callable[[Measures], float]) -> float:
    values = [value for point in points if not math.isnan(value := measure(point.measures))]
    return median(values) if values else math.nan


def _log_times(axes: Axes) -> None:
    ticker = need("matplotlib.ticker")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def doses(view: View) -> Chart | None:
    """The frontier of both laws, and their differences; None without doses."""
    rows = view.results.laws
    if not drawable(value for row in rows for value in row.intended.values()):
        return None
    laws = dict.fromkeys(law for row in rows for law in row.intended)
    at = [row.divergence for row in rows]
    intended = {law: [row.intended.get(law) for row in rows] for law in laws}
    cost = {law: [row.perplexity_ratio.get(law) for row in rows] for law in laws}

    def curves(measure: dict[str, list[float | None]]) -> list[Curve]:
        return [Curve(law_look(law), at, measure[law]) for law in laws]

    dosed = partial(lines, finish=partial(_dose_axis, at=at), xlabel="dose, nats per token")
    differences = {
        "Difference in probability": ("preserve − add", [r.intended_difference for r in rows]),
        "Difference in surprise": ("nats per token", [r.surprise_difference for r in rows]),
        "Difference in adherence": ("preserve − add", [r.adherence_difference for r in rows]),
    }
    return Chart(
        "doses",
        "Both laws at equal dose, the KL divergence of the steered from the unsteered next-token"
        " distribution, as it was asked for. Below, the paired differences with 95 % intervals:"
        " above 0 preserve has more. More surprise is worse.",
        [
            dosed("Intended emotion", curves(intended), ylabel="probability", ylim=(0, None)),
            dosed("Perplexity", curves(cost), ylabel="times unsteered"),
            lines(
                "Emotion against perplexity",
                [Curve(law_look(law), cost[law], intended[law]) for law in laws],
                xlabel="perplexity, times unsteered", ylabel="probability", ylim=(0, None),
            ),
            *(
                dosed(title, [Curve(_DIFFERENCE, at, found)], levels=[(0, ZERO)], ylabel=label)
                for title, (label, found) in differences.items()
            ),
        ],
        [*map(law_look, laws), _DIFFERENCE],
        size=(3.6, 2.5),
    )  # fmt: skip


def _dose_axis(axes: Axes, at: list[float]) -> None:
    if len(at) > 1 and min(at) > 0:
        ticker = need("matplotlib.ticker")
        axes.set_xscale("log")
        axes.set_xticks(at)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
