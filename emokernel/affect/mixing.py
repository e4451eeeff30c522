"""From a point on the circumplex to a mix of the emotions that are at hand."""

from __future__ import annotations

import math
from collections.abc import Iterable

from emokernel.affect.circumplex import Affect, angle_of
from emokernel.errors import EmokernelError


def mix_for(affect: Affect, emotions: Iterable[str]) -> dict[str, float]:
    """Non-negative weights of at most two ``emotions`` that point to ``affect``.

    The two are the neighbours of its angle on the circle; their weights, as coefficients of unit
    vectors, give its direction, and sum to its radius. Across a gap of 180 degrees or more only
    the nearer neighbour is used. The neutral centre gives an empty mix. Emotions at one angle
    share its weight equally. EmokernelError if no emotion has a known angle.
    """
    at_angle: dict[float, list[str]] = {}
    for emotion in emotions:
        angle = angle_of(emotion)
        if angle is not None:
            at_angle.setdefault(angle, []).append(emotion)
    if not at_angle:
        raise EmokernelError(
            "no emotion of these vectors has a place on the circumplex; name emotions instead"
        )
    if affect.radius < 1e-9:
        return {}

    def distance(start: float, end: float) -> float:
        return (end - start) % 360.0

    before = min(at_angle, key=lambda angle: distance(angle, affect.angle))
    after = min(at_angle, key=lambda angle: distance(affect.angle, angle))
    behind, ahead = distance(before, affect.angle), distance(affect.angle, after)
    if behind + ahead >= 180.0:
        shares = {before if behind <= ahead else after: 1.0}
    elif behind + ahead == 0.0:
        shares = {before: 1.0}
    else:
        shares = {
            before: math.sin(math.radians(ahead)),
            after: math.sin(math.radians(behind)),
        }
    total = sum(shares.values())
    return {
        emotion: affect.radius * share / total / len(at_angle[angle])
        for angle, share in shares.items()
        if share > 1e-9 * total
        for emotion in at_angle[angle]
    }
