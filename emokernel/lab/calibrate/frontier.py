"""The strength at which each emotion meets the bounds: texts where the decision is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emokernel.lab.calibrate.choose import Bounds, Point, choose, edge
from emokernel.lab.calibrate.halving import Arm
from emokernel.lab.calibrate.measuring import Landscape
from emokernel.lab.measure.equal_doses import Ask

# How much larger the next dose is where all were within the bounds, and the largest of all.
_FURTHER, _LARGEST = 1.6, 4.0
# Doses that are this near to each other are one, so that their texts count together.
_SAME = 1.2
# Where even the smallest dose was far out of the bounds, the next is this share of it.
_LESS = 0.25


def refine(
    landscape: Landscape, arm: Arm, rounds: Sequence[int], bounds: Bounds, start: int
) -> None:
    """Measure every ask where its bounds are met, as far as known; ``rounds``: texts of each.

    ``start``: how many prompts have been used before.
    """
    for texts in rounds:
        doses = {
            ask: [_next(list(arm.points(landscape, ask).values()), bounds)] for ask in arm.asks
        }
        arm.measure(landscape, doses, start, start + texts)
        start += texts


def best(landscape: Landscape, arm: Arm, bounds: Bounds) -> dict[Ask, Point]:
    """Of each ask the strongest point within the bounds."""
    every = range(landscape.prompts)
    return {
        ask: choose(
            list(arm.points(landscape, ask).values()), landscape.plain(ask, every).effect, bounds
        )
        for ask in arm.asks
    }


def _next(points: Sequence[Point], bounds: Bounds) -> float:
    smallest, largest = (f(point.divergence for point in points) for f in (min, max))
    at = edge(points, bounds)
    if math.isinf(at):
        return min(largest * _FURTHER, _LARGEST)
    at = max(at, smallest * _LESS)
    near = min((point.divergence for point in points), key=lambda d: abs(math.log(d / at)))
    return near if 1 / _SAME < near / at < _SAME else at
