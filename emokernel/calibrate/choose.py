"""From measured points to a dose: the strongest emotion within the bounds of fluency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emokernel.errors import EmokernelError

# What an unsteered text scores is known far better than any one point.
_ANCHOR_WEIGHT = 1e3
# Points are tried this finely between the measured ones.
_STEPS = 200


@dataclass(frozen=True)
class Bounds:
    """What steering may cost at strength 1.0, both against unsteered text of the same prompts.

    perplexity: the most times as high, under the unsteered model. distinct: the least share of
    distinct 3-grams that is left.
    """

    perplexity: float = 1.5
    distinct: float = 0.9

    def __post_init__(self) -> None:
        if not (self.perplexity > 1 and 0 < self.distinct <= 1):
            raise EmokernelError(
                f"bounds need perplexity above 1 and distinct above 0 and at most 1, got {self}"
            )


@dataclass(frozen=True)
class Point:
    """What one dose does.

    divergence: KL from the unsteered model in nats per token, `emokernel.evaluate.divergence`.
    effect: how strong the emotion is, the judge's mean probability of it (an emotion) or mean
    affect along its direction (a state). perplexity, distinct: times unsteered.
    """

    strength: float
    divergence: float
    effect: float
    perplexity: float
    distinct: float


def choose(points: Sequence[Point], unsteered: float, bounds: Bounds) -> Point:
    """The point of strongest effect within ``bounds``, the smallest dose of equal ones, smoothed.

    Points are noisy, so over the divergence the logarithm of the perplexity is taken to rise, the
    share of distinct 3-grams to fall and the effect to rise, by isotonic regression through the
    unsteered model, whose effect is ``unsteered``; between points all are linear.

    EmokernelError without points, or for one that is not finite.
    """
    from sklearn.isotonic import IsotonicRegression

    points = sorted(points, key=lambda point: point.divergence)
    rows = [(p.divergence, p.strength, p.effect, p.perplexity, p.distinct) for p in points]
    if not rows or not np.isfinite(rows).all():
        raise EmokernelError(f"a dose is chosen from finite points, got {points}")
    divergence, strength, effect, perplexity, distinct = np.array(
        [(0.0, 0.0, unsteered, 1.0, 1.0), *rows]
    ).T
    weights = np.ones(len(divergence))
    weights[0] = _ANCHOR_WEIGHT

    def smoothed(values: np.ndarray, increasing: bool) -> np.ndarray:
        model = IsotonicRegression(increasing=increasing)
        return model.fit_transform(divergence, values, sample_weight=weights)

    curves = {
        "strength": np.maximum.accumulate(strength),
        "effect": smoothed(effect, True),
        "perplexity": smoothed(np.log(perplexity), True),
        "distinct": smoothed(distinct, False),
    }
    tried = np.unique([*divergence, *np.linspace(0, divergence[-1], _STEPS)])
    curves = {name: np.interp(tried, divergence, values) for name, values in curves.items()}
    allowed = (curves["perplexity"] <= math.log(bounds.perplexity) + 1e-9) & (
        curves["distinct"] >= bounds.distinct - 1e-9
    )
    best = int(np.argmax(np.where(allowed, curves["effect"], -np.inf)))
    return Point(
        float(curves["strength"][best]),
        float(tried[best]),
        float(curves["effect"][best]),
        math.exp(curves["perplexity"][best]),
        float(curves["distinct"][best]),
    )
