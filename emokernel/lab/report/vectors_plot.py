"""Pictures of emotion vectors: their lengths, how they lie to each other, what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emokernel.atomic import save_figure
from emokernel.extras import need
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
    panels = _panels(vectors)
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    size = 6.2 * columns + 1.6, 5.2 * rows
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, draw in zip(axes, panels, strict=False):
        draw(axis)
    lines, labels = axes[0].get_legend_handles_labels()
    entries = math.ceil(len(labels) / (26 * rows))
    figure.legend(lines, labels, loc="outside right upper", frameon=False, ncols=max(entries, 1))
    save_figure(figure, path, dpi=110)


def _panels(vectors: EmotionVectors) -> list[Callable[[Axes], None]]:
    norms = vectors.tensor.double().norm(dim=-1).numpy()
    norms[[layer for layer in range(vectors.num_layers) if layer not in vectors.layers]] = np.nan
    by_layer = partial(_by_layer, names=vectors.names)
    panels = [
        partial(by_layer, values=norms, title="Length of the vectors", label="norm"),
        partial(_cosines, vectors=vectors),
    ]
    for key, (_, title, label) in _GRIDS.items():
        values = diagnostic(vectors, key)
        if values is not None:
            panels.append(partial(by_layer, values=values, title=title, label=label))
    shares = {label: diagnostic(vectors, key) for key, (_, label) in _BY_LAYER.items()}
    shares = {label: values for label, values in shares.items() if values is not None}
    return [*panels, partial(_shares, shares=shares)] if shares else panels


def _by_layer(
    axis: Axes, names: tuple[str, ...], values: np.ndarray, title: str, label: str
) -> None:
    looks = cycle(product(_LINES, need("matplotlib").colormaps["tab10"].colors))
    for name, column, (style, colour) in zip(names, values.T, looks, strict=False):
        axis.plot(column, style, color=colour, marker=".", markersize=5, linewidth=1.3,
                  label=_label(name))  # fmt: skip
    axis.set(title=title, ylabel=label)
    _layer_axis(axis, len(values))
    if label == "AUC":
        axis.axhline(0.5, color="0.4", linewidth=0.8)
        axis.annotate("chance", (0.995, 0.5), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8, color="0.4")  # fmt: skip
        axis.set_ylim(min(0.45, np.nanmin(values) - 0.02), 1.01)
    else:
        axis.set_ylim(bottom=0)


def _shares(axis: Axes, shares: dict[str, np.ndarray]) -> None:
    for (label, values), style in zip(shares.items(), ("o-", "s--"), strict=False):
        axis.plot(values, style, markersize=4, label=label)
    axis.set(title="Base and profile", ylim=(-0.02, 1.05))
    _layer_axis(axis, len(next(iter(shares.values()))))
    axis.legend(frameon=False, loc="best")


def _layer_axis(axis: Axes, layers: int) -> None:
    axis.set(xlabel="layer", xlim=(-0.5, layers - 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


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
    axis.set_title("Cosine between emotions, mean over layers")
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
