"""Russell's circumplex of affect: the points on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from emokernel.errors import EmokernelError


@dataclass(frozen=True)
class Affect:
    """A point of the circumplex: valence and arousal, both within the unit circle.

    Raises EmokernelError for coordinates that are not finite or lie outside the circle.
    """

    valence: float
    arousal: float

    def __post_init__(self) -> None:
        # The states of arXiv 2504.14706 are printed with three digits: (0.866, 0.5) is 0.99998.
        if not self.radius <= 1.001:
            raise EmokernelError(
                f"Affect(valence={self.valence}, arousal={self.arousal}) is not a point within the"
                " unit circle; use strength= for more than full strength"
            )

    @classmethod
    def at(cls, angle: float, radius: float = 1.0) -> Affect:
        """The point at ``angle`` degrees and ``radius``."""
        radians = math.radians(angle)
        return cls(radius * math.cos(radians), radius * math.sin(radians))

    @property
    def radius(self) -> float:
        """The intensity: distance from the neutral centre, 0..1."""
        return math.hypot(self.valence, self.arousal)

    @property
    def angle(self) -> float:
        """Degrees in [0, 360): 0 is pleasure (+valence), 90 is arousal (+arousal)."""
        # The second remainder is for angles a rounding below 0, of which the first makes 360.
        return math.degrees(math.atan2(self.arousal, self.valence)) % 360.0 % 360.0


# The 12 states of arXiv 2504.14706: unit circle in steps of 30 degrees, (arousal, valence) =
# (cos 30k, sin 30k); the set follows from the paper's abstract, the order after the first two
# is our completion.
TWELVE_STATES = tuple(
    Affect(valence=math.sin(math.radians(30 * k)), arousal=math.cos(math.radians(30 * k)))
    for k in range(12)
)


def is_number(value: object) -> bool:
    """Whether this is a finite number that a float can hold; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
