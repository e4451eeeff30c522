"""The wheel: a point of the circumplex by the emotions beside it on the circle."""

from __future__ import annotations

import math
from collections.abc import Iterable

from emokernel.affect.circumplex import Affect
from emokernel.affect.coordinates import Coordinates
from emokernel.errors import EmokernelError
from emokernel.reference import MAX_COMPONENTS


class Wheel:
    """Interpolates between the neighbouring emotions on the circle.

    Only the labels' angles count; how far from the centre a table puts them does not, so every
    emotion has its full strength on the circle.
    """

    def __init__(self, names: Iterable[str], coordinates: Coordinates) -> None:
        """``names``: the emotions at hand; ``left_out``: those of them without an angle.

        EmokernelError if none has one, or if neighbouring angles hold more emotions than a mix.
        """
        names = tuple(names)
        self.left_out = tuple(name for name in names if coordinates.angle(name) is None)
        self._at: dict[float, list[str]] = {}
        for name in names:
            if (angle := coordinates.angle(name)) is not None:
                self._at.setdefault(angle, []).append(name)
        if not self._at:
            raise EmokernelError(
                "no emotion of these vectors has a place on the circumplex in the table"
                f" {coordinates.name!r}; name emotions instead, or extend the table"
            )
        around = sorted(self._at)
        for before, after in zip(around, around[1:] + around[:1], strict=True):
            together = [name for angle in {before, after} for name in self._at[angle]]
            if len(together) > MAX_COMPONENTS:
                raise EmokernelError(
                    f"between {before:g} and {after:g} degrees a mix would have"
                    f" {len(together)} emotions, more than {MAX_COMPONENTS}"
                    f" ({', '.join(together)}): leave some out with vectors.select"
                )

    def mix(self, affect: Affect) -> dict[str, float]:
        """Non-negative weights of the emotions at no more than two angles.

        The two are the neighbours of the point's angle; their weights, as coefficients of unit
        vectors, give its direction, and sum to its radius. Across a gap of 180 degrees or more only
        the nearer neighbour is used. Emotions at one angle share its weight equally. The neutral
        centre gives an empty mix.
        """
        if affect.radius < 1e-9:
            return {}
        before = min(self._at, key=lambda angle: _turn(angle, affect.angle))
        after = min(self._at, key=lambda angle: _turn(affect.angle, angle))
        behind, ahead = _turn(before, affect.angle), _turn(affect.angle, after)
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
            emotion: affect.radius * share / total / len(self._at[angle])
            for angle, share in shares.items()
            if share > 1e-9 * total
            for emotion in self._at[angle]
        }


def _turn(start: float, end: float) -> float:
    """Degrees from ``start`` to ``end`` counterclockwise, [0, 360)."""
    return (end - start) % 360.0
