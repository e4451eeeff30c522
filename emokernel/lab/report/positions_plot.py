"""A picture of where the emotions of a model lie against where a table puts them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from emokernel.affect import Coordinates
from emokernel.atomic import save_figure
from emokernel.extras import need
from emokernel.lab.evaluate.positions import agreement, positions_of
from emokernel.vectors import EmotionVectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float]


def plot_positions(
    path: str | PathLike[str],
    vectors: EmotionVectors,
    coordinates: Coordinates,
    layer_weights: Sequence[float] | None = None,
    ridge: float | None = None,
) -> None:
    """Draw the table's points (rings) and `positions_of` (filled, with labels) to ``path``.

    A line joins both places of an emotion, coloured by the angle in the table; emotions without
    coordinates are grey squares. The title gives the `Agreement`. What `positions_of` raises, this
    raises.
    """
    positions = positions_of(vectors, coordinates, layer_weights, ridge)
    colours = need("matplotlib.colors")
    figure = need("matplotlib.figure").Figure(figsize=(9, 9.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.add_patch(need("matplotlib.patches").Circle((0, 0), 1, fill=False, color="0.75", zorder=0))
    axes.axhline(0, color="0.9", zorder=0)
    axes.axvline(0, color="0.9", zorder=0)
    rings = {name: (p.valence, p.arousal) for name in positions if (p := coordinates.get(name))}
    for name, place in positions.items():
        if name not in rings:
            axes.plot(*place, "s", color="0.45", markersize=8, zorder=3)
            continue
        colour = colours.hsv_to_rgb((coordinates[name].angle / 360, 0.75, 0.72))
        axes.plot(*zip(rings[name], place, strict=True), color=colour, alpha=0.6, zorder=1)
        axes.plot(*rings[name], "o", markersize=8, color=colour, markerfacecolor="w", zorder=2)
        axes.plot(*place, "o", color=colour, markersize=8, zorder=3)
    reach = 1.15 * max(1.0, *(abs(x) for place in positions.values() for x in place))
    axes.set(
        xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="valence",
        ylabel="arousal",
    )  # fmt: skip
    axes.set_title(_title(positions, coordinates), fontsize=11)
    looks = {
        f"table {coordinates.name!r}": {"marker": "o", "markerfacecolor": "w", "color": "0.3"},
        "model": {"marker": "o", "color": "0.3"},
    }
    if len(rings) < len(positions):
        looks["model, not in the table"] = {"marker": "s", "color": "0.45"}
    line = need("matplotlib.lines").Line2D
    axes.legend(
        handles=[line([], [], linestyle="", label=label, **look) for label, look in looks.items()],
        loc="lower center", bbox_to_anchor=(0.5, -0.11), ncols=len(looks), frameon=False,
    )  # fmt: skip
    _label(axes, positions, [*rings.values(), *positions.values()])
    save_figure(figure, path)


def _title(positions: Mapping[str, Place], coordinates: Coordinates) -> str:
    close = agreement(positions, coordinates)
    title = f"Emotions of the model against the table {coordinates.name!r}"
    if close is None:
        return title
    return (
        f"{title}\n{close.emotions} emotions, each located by the others: mean cosine"
        f" {close.cosine:.2f} (chance 0), mean angle {close.circular_error:.0f}° (chance 90°),"
        f"\ncircular correlation {close.circular_correlation:.2f}"
    )


def _label(axes: Axes, places: Mapping[str, Place], dots: Sequence[Place]) -> None:
    """Write each name at the nearest spot that is clear of ``dots``, other names and the frame."""
    renderer = need("matplotlib.backends.backend_agg").FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw(renderer)  # lays the figure out, so that data have their final size
    to_pixels = axes.transData.transform
    frame = axes.get_window_extent()
    # Centres and half sizes of what is taken, in pixels.
    taken = [(dot, np.full(2, 5.0)) for dot in to_pixels(list(dots))]
    turns = np.arange(16) * math.tau / 16
    directions = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for name, place in places.items():
        text = axes.text(*place, name, ha="center", va="center", fontsize=11, zorder=4)
        extent = text.get_window_extent(renderer)
        half = np.array([extent.width, extent.height]) / 2 + 2

        def overlaps(centre: np.ndarray, half: np.ndarray = half) -> int:
            others = sum(bool(np.all(abs(at - centre) < half + size)) for at, size in taken)
            return others + sum(
                not frame.contains(*each) for each in (centre - half, centre + half)
            )

        far = np.arange(8, 96, 8)[:, None, None]
        spots = (to_pixels(place) + directions * (half + far)).reshape(-1, 2)
        centre = min(spots, key=overlaps)  # the first, so the nearest, of the best
        taken.append((centre, half))
        spot = axes.transData.inverted().transform(centre)
        text.set_position(spot)
        axes.plot(*zip(place, spot, strict=True), color="0.8", linewidth=0.7, zorder=0)
