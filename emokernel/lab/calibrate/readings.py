"""What was measured of a few texts, and the point that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from emokernel.lab.calibrate.choose import Point
from emokernel.lab.measure.fluency import distinct_n, exponential, repetition


@dataclass(frozen=True)
class Readings:
    """Texts as they are read, one column each.

    prompts: the numbers of those they are written behind. effects: the judge's probability of the
    emotion, or the affect along the direction of the state. nats, tokens: negative log-likelihood
    under the unsteered model and number of tokens. texts: what was written.
    """

    prompts: tuple[int, ...] = ()
    effects: tuple[float, ...] = ()
    nats: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: Sequence[Sequence]) -> Readings:
        """The columns in their order, as `columns` gives them."""
        return cls(*map(tuple, columns))

    def columns(self) -> list[tuple]:
        """All columns."""
        return [getattr(self, field.name) for field in fields(self)]

    def __add__(self, other: Readings) -> Readings:
        pairs = zip(self.columns(), other.columns(), strict=True)
        return Readings(*(one + more for one, more in pairs))

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def effect(self) -> float:
        """The mean."""
        return sum(self.effects) / len(self)

    def surprise(self) -> float:
        """Nats per token; a model that writes nothing at all is as surprising as can be."""
        return sum(self.nats) / sum(self.tokens) if sum(self.tokens) else math.inf

    def point(self, plain: Readings, strength: float, divergence: float) -> Point:
        """What a dose does, against unsteered texts behind the same prompts."""
        return Point(
            strength,
            divergence,
            self.effect,
            exponential(self.surprise() - plain.surprise()),
            # A few unsteered texts may be too short to have any 3-gram.
            distinct_n(self.texts) / (distinct_n(plain.texts) or 1.0),
            len(self),
            repetition(self.texts) - repetition(plain.texts),
        )
