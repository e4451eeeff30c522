"""`Calibration`: what strength 1.0 of a file of emotion vectors means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emokernel.errors import EmokernelError

# The states of a calibrated circle lie at 0, 30, ... 330 degrees.
STATES_OF_CIRCLE = 12


def key_of(*choices: str) -> str:
    """How a law and a dose, or these and a mapping, are named together: "preserve absolute"."""
    return " ".join(choices)


@dataclass(frozen=True)
class Calibration:
    """The point that `lab.calibrate` chose for a set of vectors, and what it found beside it.

    site: where the rows are steered, "attention" or "block".
    profile: ``[L]``, what every weight is multiplied with in each layer; 0 leaves a layer alone.
    law, dose: the chosen ones.
    mapping: how points of the circumplex become mixes, "wheel" or "axes".
    coordinates: the name of the table of label coordinates that the mapping uses.
    table: ``{label: (valence, arousal)}`` of that table, unless it is one of the package.
    strengths: for each law and dose ("preserve absolute"), what strength 1.0 of each emotion is as
        a weight.
    circle: for each law, dose and mapping ("preserve absolute wheel") the 12 factors, at 0, 30,
        ... 330 degrees, that the weights of a point of the circumplex are multiplied with besides.
    record: how it was found: judge, bounds, number of prompts, what was measured.

    Raises EmokernelError for values that contradict each other.
    """

    site: str
    profile: tuple[float, ...]
    law: str
    dose: str
    mapping: str
    coordinates: str
    strengths: Mapping[str, Mapping[str, float]]
    circle: Mapping[str, tuple[float, ...]]
    record: Mapping[str, Any] = field(default_factory=dict)
    table: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        profile = tuple(map(float, self.profile))
        strengths = {key: dict(weights) for key, weights in self.strengths.items()}
        circle = {key: tuple(map(float, factors)) for key, factors in self.circle.items()}
        numbers = [*profile, *(s for weights in strengths.values() for s in weights.values())]
        numbers += [factor for factors in circle.values() for factor in factors]
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise EmokernelError("a calibration needs finite numbers that are not negative")
        if not any(profile):
            raise EmokernelError("the layer profile of a calibration is zero in every layer")
        if key_of(self.law, self.dose) not in strengths:
            raise EmokernelError(f"no strengths for the chosen law and dose: {list(strengths)}")
        if any(len(factors) != STATES_OF_CIRCLE for factors in circle.values()):
            raise EmokernelError(f"a calibrated circle needs {STATES_OF_CIRCLE} factors")
        table = {label: tuple(map(float, point)) for label, point in self.table.items()}
        for name, value in (
            ("profile", profile), ("strengths", strengths), ("circle", circle), ("table", table)
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def factor(self, key: str, angle: float) -> float | None:
        """The factor at ``angle`` degrees, linear between states; None if ``key`` has none."""
        factors = self.circle.get(key)
        if factors is None:
            return None
        first, share = divmod((angle % 360.0) / (360.0 / STATES_OF_CIRCLE), 1.0)
        before, after = (factors[(int(first) + n) % STATES_OF_CIRCLE] for n in (0, 1))
        return (1 - share) * before + share * after
