"""The diagnostics of emotion vectors as arrays, for tables and pictures.

`emokernel.lab.extract.diagnostics` says what each of them is.
"""

from __future__ import annotations

import numpy as np

from emokernel.vectors import EmotionVectors


def grid(vectors: EmotionVectors, key: str) -> np.ndarray | None:
    """A diagnostic ``[L, E]``, nan where nothing was measured; None if it is not there."""
    return _numbers(vectors, key, (vectors.num_layers, len(vectors.names)))


def per_layer(vectors: EmotionVectors, key: str) -> np.ndarray | None:
    """A diagnostic ``[L]``, nan where nothing was measured; None if it is not there."""
    return _numbers(vectors, key, (vectors.num_layers,))


def _numbers(vectors: EmotionVectors, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
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
    for key, title in (
        ("relative_norm", "rel. norm"),
        ("auc_neutral", "AUC neutral"),
        ("auc_others", "AUC others"),
    ):
        values = grid(vectors, key)
        if values is not None:
            some = ~np.isnan(values).all(1)
            means = np.full(len(values), np.nan)
            means[some] = np.nanmean(values[some], axis=1)
            columns[title] = means
    for key, title in (("base_share", "base share"), ("suggested_profile", "profile")):
        values = per_layer(vectors, key)
        if values is not None:
            columns[title] = values
    return columns
