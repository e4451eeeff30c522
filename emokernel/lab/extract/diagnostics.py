"""Diagnostics: what extracted vectors are worth, measured on text that they were not made from.

docs/extraction.md lists them; by layer ``[L]``, ``[L][E]`` or ``[L][E][E]``, as JSON knows it, with
None where nothing was measured (no held-out text, a layer without vectors). An area under the ROC
curve (AUC) is that of the texts' projections on the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emokernel.extras import need
from emokernel.lab.extract.samples import Group, Rows

Table = list[list[float | None]]


def diagnose(
    vectors: np.ndarray,
    training_vectors: np.ndarray | None,
    rows: Rows,
    lengths: np.ndarray,
    heldout: Sequence[Group],
    *,
    layers: Sequence[int],
    num_layers: int,
    site: str,
) -> dict[str, Any]:
    """The diagnostics of ``vectors [layers, E, d]`` in the ``layers`` of a model.

    ``training_vectors``: like them, from the training part, or None if nothing is held out.
    ``lengths [layers, texts]``: mean lengths of the stream's rows; 0 for texts that were not read.
    """
    emotions = [group.emotion for group in heldout]
    stream = lengths @ rows.weights / rows.weights.sum()
    norms = np.linalg.norm(vectors, axis=-1)
    units = vectors / np.where(norms, norms, 1)[..., None]
    energy = np.square(norms).sum(1)
    base = len(emotions) * np.square(np.linalg.norm(vectors.mean(1), axis=-1))
    neutral, others = _separation(training_vectors, rows, heldout)

    def by_layer(values: Sequence[Any]) -> list[Any]:
        spread: list[Any] = [None] * num_layers
        for layer, value in zip(layers, values, strict=True):
            spread[layer] = value
        return spread

    return {
        "stream_norm": by_layer(stream.tolist()),
        "relative_norm": by_layer((norms / stream[:, None]).tolist()),
        "auc_neutral": by_layer(neutral),
        "auc_others": by_layer(others),
        "cosine": by_layer((units @ units.transpose(0, 2, 1)).tolist()),
        "base_share": by_layer((base / np.where(energy, energy, 1)).tolist()),
        "suggested_profile": suggest_profile(by_layer(neutral), by_layer(others), site),
        "heldout_texts": {group.emotion: len(group.rows) for group in heldout},
    }


def suggest_profile(
    auc_neutral: Sequence[Sequence[float | None] | None],
    auc_others: Sequence[Sequence[float | None] | None],
    site: str,
) -> list[float] | None:
    """A weight for each layer, from how well it separates; None if that is not known anywhere.

    The rule is that of docs/extraction.md. All weights are 0 if no layer is above chance.
    """
    separation = np.zeros(len(auc_neutral))
    known = False
    for layer, tables in enumerate(zip(auc_neutral, auc_others, strict=True)):
        values = [value for table in tables for value in table or () if value is not None]
        known = known or bool(values)
        separation[layer] = max(0.0, np.mean(values) - 0.5) if values else 0.0
    if not known:
        return None
    if site == "block":
        best = np.argsort(-separation, kind="stable")[: -(-len(separation) // 3)]
        separation[np.setdiff1d(np.arange(len(separation)), best)] = 0.0
    most = separation.max()
    return (separation / most if most else separation).tolist()


def _separation(
    vectors: np.ndarray | None, rows: Rows, heldout: Sequence[Group]
) -> tuple[Table, Table]:
    """AUC against neutral and against the other emotions, ``[layers][E]`` each."""
    nothing: Table = [[None] * len(heldout) for _ in rows.values]
    if vectors is None:
        return nothing, nothing
    texts = sorted({row for group in heldout for row in (*group.rows, *group.neutral)})
    place = {row: number for number, row in enumerate(texts)}
    emotional = [[place[row] for row in group.rows] for group in heldout]
    neutral = [[place[row] for row in dict.fromkeys(group.neutral)] for group in heldout]
    others = [sorted({row for other in emotional for row in other} - set(own)) for own in emotional]
    tables: tuple[Table, Table] = ([], [])
    for layer, directions in enumerate(vectors):
        scores = np.concatenate([c @ directions.T for c, _ in rows.chunks(layer, texts)])
        for table, against in zip(tables, (neutral, others), strict=True):
            table.append(
                [
                    _auc(scores[own, emotion], scores[other, emotion])
                    for emotion, (own, other) in enumerate(zip(emotional, against, strict=True))
                ]
            )
    return tables


def _auc(positive: np.ndarray, negative: np.ndarray) -> float | None:
    if not len(positive) or not len(negative):
        return None
    labels = [1] * len(positive) + [0] * len(negative)
    scores = np.concatenate([positive, negative])
    return float(need("sklearn.metrics").roc_auc_score(labels, scores))
