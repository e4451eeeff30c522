"""How the consistency grows with intensity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from emokernel.lab.evaluate.results import VECTOR, Consistency
from emokernel.lab.report.figures import number
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.plots.curves import curve, curve_with_intervals, drawable, level
from emokernel.lab.report.plots.looks import CEILING, FLOOR, mode_look
from emokernel.lab.report.view import MODES, NAMES, View, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def intensity(view: View) -> Chart | None:
    """Mean and pooled cosine against intensity; None if there is one intensity only."""
    rows = {mode: view.by_intensity(mode) for mode in MODES if view.by_intensity(mode)}
    means = [row.cosine.mean for row_list in rows.values() if len(row_list) > 1 for row in row_list]
    if not drawable(means):
        return None
    ceiling = view.ceiling()
    full = view.full()
    floor = (full.get(VECTOR) or next(iter(full.values()))).floor

    def mean(axes: Axes) -> None:
        level(axes, floor, FLOOR)
        level(axes, ceiling.cosine if ceiling else None, CEILING)
        for mode, curve_rows in rows.items():
            curve_with_intervals(
                axes, _xs(curve_rows), [row.cosine for row in curve_rows], mode_look(mode)
            )
        _finish(axes, "mean cosine")

    def pooled(axes: Axes) -> None:
        level(axes, ceiling.pooled if ceiling else None, CEILING)
        for mode, curve_rows in rows.items():
            curve(axes, _xs(curve_rows), [row.pooled for row in curve_rows], mode_look(mode))
        _finish(axes, "pooled cosine")

    def perplexity(axes: Axes) -> None:
        axes.axhline(1, color=FLOOR.colour, linewidth=0.8)
        for mode, curve_rows in rows.items():
            curve(axes, _xs(curve_rows), [row.perplexity for row in curve_rows], mode_look(mode))
        axes.set(xlabel="intensity", ylabel="times unsteered")

    return Chart(
        "intensity",
        "Intensity of the request, by mode. Left, the mean cosine over texts with its 95 %"
        " interval; middle, the cosine of the mean direction; right, what it costs in"
        f" perplexity under the unsteered model.{_templates(rows)}",
        [
            Panel("Mean cosine", _ends(rows, lambda row: row.cosine.mean), mean),
            Panel("Pooled cosine", _ends(rows, lambda row: row.pooled), pooled),
            Panel("Perplexity", _ends(rows, lambda row: row.perplexity), perplexity),
        ],
        [*map(mode_look, rows), *([CEILING] if ceiling else []), FLOOR],
    )


def _templates(rows: Mapping[str, list[Consistency]]) -> str:
    named = [
        title(group[0], ("", group[0].template)) for group in rows.values() if group[0].template
    ]
    return f" Drawn are: {', '.join(named)}." if named else ""


def _xs(rows: list[Consistency]) -> list[float]:
    return [row.intensity for row in rows]


def _finish(axes: Axes, label: str) -> None:
    axes.set(xlabel="intensity", ylabel=label)
    axes.set_ylim(min(-0.1, axes.get_ylim()[0]), max(1.0, axes.get_ylim()[1]))


def _ends(rows: dict[str, list[Consistency]], measure: Callable[[Consistency], float]) -> str:
    return (
        f"{'; '.join(_end(NAMES.get(mode, mode), each, measure) for mode, each in rows.items())}."
    )


def _end(name: str, rows: list[Consistency], measure: Callable[[Consistency], float]) -> str:
    first, last = rows[0], rows[-1]
    start = f"{number(measure(first))} at intensity {number(first.intensity)}"
    if len(rows) == 1:
        return f"{name} {start}"
    return f"{name} from {start} to {number(measure(last))} at {number(last.intensity)}"
