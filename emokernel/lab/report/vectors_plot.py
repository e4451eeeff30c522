"""Pictures of emotion vectors: their lengths, how they lie to each other, what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emokernel.extras import need
from emokernel.lab.report.plots.chart import Chart, Look, Panel
from emokernel.lab.report.plots.lines import ZERO, Curve, lines
from emokernel.vectors import EmotionVectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = ("-", "--", ":", "-.")
_ANNOTATED = 16  # up to as many emotions the numbers can be read in the cells of a heat map
# Diagnostics of the extraction, see `emokernel.lab.extract.diagnostics`: by layer and emotion, with
# the title of a column, of a picture and of its axis; and by layer.
_GRIDS = {
    "relative_norm": ("rel. norm", "Length relative to the residual stream",
                      "norm / mean norm of the rows"),
    "auc_neutral": ("AUC neutral", "Held-out text: the emotion against neutral", "AUC"),
    "auc_others": ("AUC others", "Held-out text: the emotion against the others", "AUC"),
}  # fmt: skip
_BY_LAYER = {
    "base_share": ("base share", "share of the base in the energy"),
    "suggested_profile": ("profile", "suggested profile"),
}


def diagnostic(vectors: EmotionVectors, key: str) -> np.ndarray | None:
    """A diagnostic ``[L, E]`` or ``[L]``, nan where nothing was measured; None without."""
    shape = vectors.tensor.shape[: 2 if key in _GRIDS else 1]
    values = vectors.diagnostics.get(key)
    if not isinstance(values, (list, tuple)) or len(values) != shape[0]:
        return None
    numbers = np.full(shape, np.nan)
    try:
        for layer, value in enumerate(values):
            if value is not None:
                numbers[layer] = np.asarray(value, dtype=float)
    except (TypeError, ValueError):  # another library's diagnostics of the same name
        return None
    return None if np.isnan(numbers).all() else numbers


def columns_of(vectors: EmotionVectors) -> dict[str, np.ndarray]:
    """Per-layer columns of the diagnostics, means over the emotions: ``{title: [L]}``."""
    columns: dict[str, np.ndarray] = {}
    for key, (title, *_) in (_GRIDS | _BY_LAYER).items():
        values = diagnostic(vectors, key)
        if values is not None and values.ndim > 1:
            known = ~np.isnan(values)
            with np.errstate(invalid="ignore"):
                values = np.where(known, values, 0).sum(1) / known.sum(1)
        if values is not None:
            columns[title] = values
    return columns


def plot_vectors(vectors: EmotionVectors, path: Path) -> None:
    """Draw ``vectors`` to ``path``: norms by layer and the cosine between emotions.

    Where the diagnostics of the extraction are there, also norms relative to the stream, the
    held-out separability, the share of the base and the suggested profile, all by layer.
    """
    colours = need("matplotlib").colormaps["tab10"].colors
    looks = [
        Look(_label(name), colour, ".", style)
        for name, (style, colour) in zip(vectors.names, cycle(product(_LINES, colours)))
    ]
    norms = vectors.tensor.double().norm(dim=-1).numpy()
    norms[[layer for layer in range(vectors.num_layers) if layer not in vectors.layers]] = np.nan
    panels = [
        _by_layer("Length of the vectors", "norm", looks, norms.T),
        Panel("Cosine between emotions, mean over layers", "", partial(_cosines, vectors=vectors)),
    ]
    for key, (_, title, label) in _GRIDS.items():
        values = diagnostic(vectors, key)
        if values is not None:
            panels.append(_by_layer(title, label, looks, values.T))
    shares = {
        Look(label, "0.2", *style): values
        for (key, (_, label)), style in zip(_BY_LAYER.items(), ("o-", "s:"), strict=True)
        if (values := diagnostic(vectors, key)) is not None
    }
    if shares:
        panels.append(_by_layer("Base and profile", "share", [*shares], [*shares.values()]))
    Chart("vectors", "", panels, [*looks, *shares], (6.2, 5.2)).draw(path)


def _by_layer(
    title: str, label: str, looks: Sequence[Look], rows: Sequence[np.ndarray] | np.ndarray
) -> Panel:
    layers = len(rows[0])
    curves = [Curve(look, range(layers), row) for look, row in zip(looks, rows, strict=True)]
    levels, height = [], (0.0, None)
    if label == "AUC":
        levels, height = [(0.5, ZERO)], (min(0.45, np.nanmin(rows) - 0.02), 1.01)
    return lines(
        title, curves, levels=levels, finish=_layer_axis, xlabel="layer", ylabel=label,
        xlim=(-0.5, layers - 0.5), ylim=height,
    )  # fmt: skip


def _layer_axis(axis: Axes) -> None:
    axis.xaxis.get_major_locator().set_params(integer=True)


def mean_cosines(vectors: EmotionVectors) -> np.ndarray:
    """``[E, E]``: the cosine between emotions, the mean over the layers where both have a vector.

    nan for an emotion without vectors.
    """
    rows = vectors.tensor.double()
    norms = rows.norm(dim=-1, keepdim=True)
    units = (rows / norms.where(norms > 0, 1)).numpy()
    cosines = np.einsum("lad,lbd->lab", units, units)
    both = (norms * norms.mT > 0).numpy()
    counts = both.sum(0)
    return np.where(counts > 0, cosines.sum(0) / np.maximum(counts, 1), np.nan)


def _cosines(axis: Axes, vectors: EmotionVectors) -> None:
    cosines = mean_cosines(vectors)
    names = [_label(name) for name in vectors.names]
    few = len(names) <= _ANNOTATED
    image = axis.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0, labelsize=9 if few else 7)
    axis.grid(False)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
    for (row, column), value in np.ndenumerate(cosines):
        if few and math.isfinite(value):
            axis.text(column, row, f"{value:.2f}".replace("0.", "."),
                      ha="center", va="center", fontsize=7,
                      color="white" if abs(value) > 0.6 else "black")  # fmt: skip


def _label(name: str) -> str:
    """A name as matplotlib shows it: cut, no mathematics, no leading underscore (hidden there)."""
    shown = name if len(name) <= 20 else name[:19] + "…"
    shown = "".join(c if c.isprintable() else "?" for c in shown).replace("$", r"\$")
    return " " + shown if shown.startswith("_") else shown
