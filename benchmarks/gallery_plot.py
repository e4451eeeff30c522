"""The picture of `benchmarks/gallery.py`: how often each failure happens, by mood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gallery_failures import IGNORED, KINDS, UNHEARD, UNSTEERED, Failures, Text

from emokernel.atomic import save_figure
from emokernel.extras import need

_BAR, _PLAIN = "#2b7bba", "#c8553d"


def plot_rates(path: Path, texts: Mapping[str, Sequence[Text]], failures: Failures) -> None:
    """Bars for each kind, moods from top to bottom; a line where unsteered texts are."""
    moods = [mood for mood in texts if mood != UNSTEERED]
    rates = {
        mood: {kind: 100 * count / len(of) for kind, count in failures.counts(of).items()}
        for mood, of in texts.items()
    }
    height = 1.3 + 0.24 * len(moods)
    figure = need("matplotlib.figure").Figure((11, height), dpi=110, layout="constrained")
    columns = figure.subplots(1, len(KINDS), sharey=True)
    for axes, kind in zip(columns, KINDS, strict=True):
        values = [rates[mood][kind] for mood in moods]
        axes.barh(moods, values, color=_BAR, height=0.7)
        plain = rates[UNSTEERED][kind]
        if kind not in (UNHEARD, IGNORED):
            axes.axvline(plain, color=_PLAIN, linestyle="--", linewidth=1.2)
        axes.set_title(kind, fontsize=10)
        axes.set_xlim(0, max(20, 1.1 * max(*values, plain)))
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    columns[0].invert_yaxis()
    figure.supxlabel(
        "% of the texts of a mood, each column on its own scale; dashed: unsteered", fontsize=10
    )
    save_figure(figure, path)
