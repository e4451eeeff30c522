"""How much a calibration measures: rounds, and what they cost at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emokernel.errors import EmokernelError

# A dose that is tried to see where the bounds are met, KL in nats per token, and the doses at which
# sites, layers and mappings are compared, times that: where the decision is.
PROBE = 0.25
LEVELS = (1.2,)
# Of the candidates, what goes on to the next round at most.
KEPT = 0.3


@dataclass(frozen=True)
class Plan:
    """Texts of each stage, a number for each round.

    probe, candidates, mappings, laws: of all emotions (or states) together at each dose.
    frontier, circle: of each emotion (or state) at the dose where the bounds are met.
    """

    probe: tuple[int, ...] = (30,)
    candidates: tuple[int, ...] = (30, 30, 60)
    frontier: tuple[int, ...] = (8, 10, 14)
    laws: tuple[int, ...] = (30,)
    mappings: tuple[int, ...] = (24,)
    circle: tuple[int, ...] = (6, 8, 10)

    @classmethod
    def of(cls, effort: float) -> Plan:
        """The usual one with ``effort`` times the texts; EmokernelError for no number above 0."""
        if not 0 < effort < math.inf:
            raise EmokernelError(f"the effort must be above 0, got {effort}")
        usual = cls()
        return cls(*(
            tuple(max(1, round(texts * effort)) for texts in rounds)
            for rounds in vars(usual).values()
        ))  # fmt: skip

    def texts(
        self, candidates: int, twins: bool, emotions: int, laws: int, states: int
    ) -> tuple[int, int, int, int]:
        """How many texts are written at most: for the choice among so many candidates, at the
        frontier, for the choice among laws, and for the circle.
        """
        choosing, alive, before = 0, candidates, 0
        for number, texts in enumerate(self.candidates):
            before += each(texts, emotions)
            choosing += alive * each(texts, emotions)
            alive = kept(alive)
            if number == 0 and twins:
                choosing += alive * before
                alive *= 2
        probing = sum(each(texts, emotions) for texts in self.probe)
        of_mappings = sum(each(texts, states) for texts in self.mappings)
        of_laws = sum(each(texts, emotions) for texts in self.laws)
        return (
            emotions * (probing + len(LEVELS) * choosing),
            emotions * sum(self.frontier),
            emotions * of_laws * laws if laws > 1 else 0,
            states * (2 * len(LEVELS) * of_mappings + sum(self.circle)),
        )


def kept(alive: int) -> int:
    """How many of so many go on to the next round at most."""
    return max(1, math.ceil(alive * KEPT))


def each(texts: int, asks: int) -> int:
    """Texts of each of so many emotions or states, for as many together."""
    return math.ceil(texts / asks) if asks else 0
