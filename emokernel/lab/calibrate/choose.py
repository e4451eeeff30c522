"""From measured points to a dose: the strongest emotion within the bounds of fluency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emokernel.errors import EmokernelError
from emokernel.extras import need

# What an unsteered text scores is known far better than any one point.
_ANCHOR_WEIGHT = 1e3
# Points are tried this finely between the measured ones.
_STEPS = 400
_NO_TEXT = 1e6
_EPSILON = 1e-9
# Mean effects that are nearer to each other are equal: measured again, they differ by as much.
NOISE = 0.01


@dataclass(frozen=True)
class Bounds:
    """What steering may cost at strength 1.0, both against unsteered text of the same prompts.

    perplexity: the most times as high, under the unsteered model. distinct: the least share of
    distinct 3-grams that is left, of all texts together. repetition: how much more of its own
    4-grams a text may repeat, in the mean (a twentieth: of twenty texts one that says nothing
    else, which the distinct 3-grams of all of them hardly show).
    """

    perplexity: float = 1.5
    distinct: float = 0.9
    repetition: float = 0.05

    def __post_init__(self) -> None:
        fine = self.perplexity > 1 and 0 < self.distinct <= 1 and 0 < self.repetition <= 1
        if not fine:
            raise EmokernelError(
                "bounds need perplexity above 1, distinct and repetition above 0 and at most 1, got"
                f" {self}"
            )


@dataclass(frozen=True)
class Point:
    """What one dose does.

    divergence: KL from the unsteered model in nats per token, `emokernel.lab.measure.equal_doses`.
    effect: how strong the emotion is, the judge's mean probability of it (an emotion) or mean
    affect along its direction (a state). perplexity, distinct: times unsteered. texts: how many it
    was measured on. repetition: share of 4-grams that are repeated within a text, in the mean, more
    than in unsteered texts.
    """

    strength: float
    divergence: float
    effect: float
    perplexity: float
    distinct: float
    texts: int = 1
    repetition: float = 0.0


def choose(points: Sequence[Point], unsteered: float, bounds: Bounds) -> Point:
    """The point of strongest effect within ``bounds``, the smallest dose of equal ones, smoothed.

    By isotonic regression (docs/calibration.md) through the unsteered model, whose effect is
    ``unsteered``, each point weighted by its texts. Text that collapses says nothing about text
    that does not: the perplexity is fitted to points before the first that repeats itself too much
    (whose perplexity falls again), the effect to points within the bounds.

    EmokernelError without points, or for one whose strength, divergence or effect is not finite, or
    whose divergence is below 0.
    """
    curve, allowed = _fitted(points, unsteered, bounds)
    best = int(np.argmax(np.where(allowed, curve["effect"], -np.inf)))
    return Point(
        float(curve["strength"][best]),
        float(curve["divergence"][best]),
        float(curve["effect"][best]),
        math.exp(curve["perplexity"][best]),
        float(curve["distinct"][best]),
        sum(point.texts for point in points),
        float(curve["repetition"][best]),
    )


def edge(points: Sequence[Point], bounds: Bounds) -> float:
    """The largest divergence within ``bounds`` by the same fit, infinite if all points are."""
    curve, allowed = _fitted(points, 0.0, bounds)
    return math.inf if allowed.all() else float(curve["divergence"][allowed][-1])


def _fitted(
    points: Sequence[Point], unsteered: float, bounds: Bounds
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Curves over the divergence (the perplexity as a logarithm), and where they are allowed."""
    rows = sorted(
        (p.divergence, p.strength, p.effect, p.perplexity, p.distinct, p.repetition, p.texts)
        for p in points
    )
    if not rows or not np.isfinite([row[:3] for row in rows]).all() or rows[0][0] < 0:
        raise EmokernelError(
            f"a dose is chosen from finite points of no negative divergence, got {list(points)}"
        )
    divergence, strength, effect, perplexity, distinct, repetition, texts = np.array(
        [(0.0, 0.0, unsteered, 1.0, 1.0, 0.0, _ANCHOR_WEIGHT * max(p.texts for p in points)), *rows]
    ).T
    distinct = _smoothed(distinct, texts, rising=False)
    repetition = _smoothed(repetition, texts, rising=True)
    most = bounds.repetition + _EPSILON
    # A model that writes nothing has no perplexity.
    times = np.nan_to_num(perplexity, nan=_NO_TEXT).clip(1 / _NO_TEXT, _NO_TEXT)
    log_perplexity = np.log(times)
    fluent = int(((distinct >= bounds.distinct - _EPSILON) & (repetition <= most)).sum())
    log_perplexity[:fluent] = _smoothed(log_perplexity[:fluent], texts[:fluent], rising=True)
    log_perplexity = np.maximum.accumulate(log_perplexity)
    tried = np.unique([*divergence, *np.linspace(0, math.sqrt(divergence[-1]), _STEPS) ** 2])
    curve = {
        "divergence": tried,
        "distinct": np.interp(tried, divergence, distinct),
        "repetition": np.interp(tried, divergence, repetition),
        "perplexity": np.interp(tried, divergence, log_perplexity),
        # The divergence of a small dose goes with the square of its strength.
        "strength": np.interp(np.sqrt(tried), np.sqrt(divergence), np.maximum.accumulate(strength)),
    }
    allowed = (
        (curve["perplexity"] <= math.log(bounds.perplexity) + _EPSILON)
        & (curve["distinct"] >= bounds.distinct - _EPSILON)
        & (curve["repetition"] <= most)
    )
    within = int((divergence <= tried[allowed][-1]).sum())
    effect[:within] = _smoothed(effect[:within], texts[:within], rising=True)
    effect[within:] = np.maximum(effect[within:], effect[within - 1])
    curve["effect"] = np.interp(tried, divergence, effect)
    return curve, allowed


def _smoothed(values: np.ndarray, weights: np.ndarray, *, rising: bool) -> np.ndarray:
    """Isotonic regression; the first value, of the unsteered model, weighs most and stays."""
    model = need("sklearn.isotonic").IsotonicRegression(increasing=rising)
    return model.fit_transform(np.arange(len(values)), values, sample_weight=weights)
