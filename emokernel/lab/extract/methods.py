"""From rows to vectors: what an emotion's direction in a layer is, by docs/extraction.md.

`pca` is about zero, not about the mean of the differences, which is the very shift that all pairs
share. `pca` and `probe` say a direction u, |u| = 1; their vector is <u, mean(x) - mean(n)> u, so
that its sign points to the emotion and strengths mean alike for all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.extract.options import Options
from emokernel.lab.extract.samples import Group, Rows

# Rows [n, d] and their positive weights [n].
Chunk = tuple[np.ndarray, np.ndarray]
# The probe reads at most so many texts of each class, chosen by the seed: it needs them in memory.
PROBE_TEXTS = 4096
# Inverse strength of its penalty, in scikit-learn's terms. With as many features as texts the
# classes can be told apart perfectly, and a weak penalty fits the noise: of 1e-4 ... 1 this one
# separated held-out text of the embedded model best while its vectors stayed long.
PROBE_C = 0.01
# Below this share of a vector's length, what the removals leave of it is rounding.
_NOISE = 1e-6
# So is a vector below this share of the length of the stream's rows that it is a difference of.
_LEAST = 1e-6


def vectors(
    rows: Rows, groups: Sequence[Group], options: Options, *, progress: bool = False
) -> np.ndarray:
    """Vectors ``[layers, E, d]`` fp64 by ``options.method``, with its removals."""
    layers = range(len(rows.values))
    vectors = np.zeros((len(layers), len(groups), rows.width))
    whole = np.zeros(vectors.shape[:2])
    for layer in tqdm(layers, desc="computing vectors", unit="layer", disable=not progress):
        for number, group in enumerate(groups):
            vectors[layer, number] = _vector(rows, layer, group, options)
        whole[layer] = np.linalg.norm(vectors[layer], axis=-1)
        if options.remove_neutral:
            neutral = sorted({row for group in groups for row in group.neutral})
            basis = neutral_components(rows, layer, neutral, options.remove_neutral)
            vectors[layer] -= vectors[layer] @ basis.T @ basis
    vectors -= options.remove_base * vectors.mean(1, keepdims=True)
    vectors[np.linalg.norm(vectors, axis=-1) <= _NOISE * whole] = 0
    return vectors


def check(
    vectors: np.ndarray, groups: Sequence[Group], stream: np.ndarray, options: Options
) -> None:
    """EmokernelError naming the emotions whose vectors ``[layers, E, d]`` say nothing anywhere.

    ``stream [layers]``: mean length of the stream's rows; what is next to nothing beside it is
    rounding, such as that of one text in two batches.
    """
    nothing = (np.linalg.norm(vectors, axis=-1) <= _LEAST * stream[:, None]).all(0)
    if not nothing.any():
        return
    names = ", ".join(repr(group.emotion) for group, no in zip(groups, nothing, strict=True) if no)
    reason = "the texts of the emotion and the neutral ones leave the model in the same state"
    if options.remove_base or options.remove_neutral:
        reason = "the removals (remove_base, remove_neutral) leave nothing of them, or " + reason
    raise EmokernelError(
        f"the vectors of {names} are zero in every layer: {reason}; give texts or contexts that"
        " differ, or remove less"
    )


def neutral_components(rows: Rows, layer: int, neutral: Sequence[int], share: float) -> np.ndarray:
    """The fewest principal components ``[k, d]`` that hold ``share`` of the neutral variance."""
    if len(neutral) < 2:
        raise EmokernelError("removing neutral components needs at least two neutral texts")
    energies, axes = principal_axes(
        rows.chunks(layer, neutral), len(neutral), rows.width, centred=True
    )
    held = np.cumsum(energies)
    return axes[: 1 + np.searchsorted(held, share * held[-1])]


def _vector(rows: Rows, layer: int, group: Group, options: Options) -> np.ndarray:
    shift = _mean(rows, layer, group.rows) - _mean(rows, layer, group.neutral)
    if options.method == "mean":
        return shift
    if options.method == "pca":
        direction = _principal(rows, layer, group)
    else:
        direction = _separating(rows, layer, group, options.seed)
    length = np.linalg.norm(direction)
    unit = direction / length if length else direction
    return (unit @ shift) * unit


def _mean(rows: Rows, layer: int, numbers: Sequence[int]) -> np.ndarray:
    return moments(rows.chunks(layer, numbers), rows.width).mean


def _principal(rows: Rows, layer: int, group: Group) -> np.ndarray:
    if group.paired:
        differences = rows.chunks(layer, group.rows, minus=group.neutral)
    else:
        neutral = _mean(rows, layer, group.neutral)
        differences = (
            (chunk - neutral, weights) for chunk, weights in rows.chunks(layer, group.rows)
        )
    _, axes = principal_axes(differences, len(group.rows), rows.width, centred=False, most=1)
    return axes[0]


def _separating(rows: Rows, layer: int, group: Group, seed: int) -> np.ndarray:
    chooser = np.random.default_rng(seed)
    values, weights, labels = [], [], []
    for label, numbers in enumerate((group.neutral, group.rows)):
        if len(numbers) > PROBE_TEXTS:
            numbers = np.sort(chooser.choice(numbers, PROBE_TEXTS, replace=False))
        for chunk, weight in rows.chunks(layer, numbers):
            values.append(chunk.astype(np.float32))
            weights.append(weight)
            labels.append(np.full(len(chunk), label))
    features, weights, labels = (np.concatenate(each) for each in (values, weights, labels))
    scale = features.std(0)
    scale[scale == 0] = 1
    features = (features - features.mean(0)) / scale
    probe = need("sklearn.linear_model").LogisticRegression(
        C=PROBE_C, class_weight="balanced", max_iter=1000
    )
    probe.fit(features, labels, sample_weight=weights / weights.mean())
    return probe.coef_[0] / scale


class Moments(NamedTuple):
    """Summed weight, weighted mean ``[d]`` and scatter ``[d, d]`` of rows.

    ``scatter`` is the sum of w (x - mean)(x - mean)^T, so the covariance is scatter / weight.
    """

    weight: float
    mean: np.ndarray
    scatter: np.ndarray


def moments(chunks: Iterable[Chunk], width: int, *, scatter: bool = False) -> Moments:
    """The moments of all ``chunks``; the scatter is zero unless asked for.

    Chunks are merged by the pairwise formula of Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979), with weights in the place of counts:
    nothing is lost where the mean is large against the spread.
    """
    total, mean = 0.0, np.zeros(width)
    spread = np.zeros((width, width) if scatter else 0)
    for rows, weights in chunks:
        weights = weights.astype(np.float64)
        weight = weights.sum()
        own = weights @ rows / weight
        step, together = own - mean, total + weight
        if scatter:
            centred = rows - own
            centred *= np.sqrt(weights)[:, None]
            spread += centred.T @ centred
            spread += np.outer(step, step) * (total * weight / together)
        mean = mean + step * (weight / together)
        total = together
    return Moments(total, mean, spread)


def principal_axes(
    chunks: Iterable[Chunk],
    count: int,
    width: int,
    *,
    centred: bool,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes ``[k, d]`` of ``count`` rows, the widest first, and the energies ``[k]``.

    The energy along an axis a is the sum of w <x, a>^2, of rows about their mean if ``centred``,
    about zero if not. ``most``: how many axes are wanted, all if None. Rows that are no more than
    ``width`` are held at once, which takes no more than the matrix ``[d, d]`` of the others.
    """
    if count <= width:
        rows, weights = (np.concatenate(each) for each in zip(*chunks, strict=True))
        if centred:
            rows -= weights @ rows / weights.sum()
        rows *= np.sqrt(weights)[:, None]
        _, singular, axes = np.linalg.svd(rows, full_matrices=False)
        return np.square(singular)[:most], axes[:most]
    weight, mean, scatter = moments(chunks, width, scatter=True)
    if not centred:
        scatter += weight * np.outer(mean, mean)
    wanted = [max(0, width - (most or width)), width - 1]
    energies, axes = need("scipy.linalg").eigh(scatter, subset_by_index=wanted, overwrite_a=True)
    return energies[::-1].clip(0), axes.T[::-1]
