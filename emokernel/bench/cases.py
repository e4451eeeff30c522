"""The situations in which variants are compared: batch, context, who is steered by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

ONE, DIFFERENT, BLENDS = "one", "different", "blends"
MIXES = (ONE, DIFFERENT, BLENDS)
_BLEND = (0.5, 0.3, 0.2)

Mix = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """``batch`` sequences behind ``context`` tokens, of which the first ``share`` is steered.

    ``mixes``: "one", the same emotion for all of them; "different", an emotion or strength of its
    own for each; "blends", a different mix of three emotions for each.
    """

    batch: int = 1
    context: int = 64
    share: float = 1.0
    mixes: str = ONE

    @property
    def steered(self) -> int:
        """How many sequences are steered."""
        return round(self.share * self.batch)

    def __str__(self) -> str:
        text = f"batch {self.batch}, context {self.context}, {self.steered} steered"
        return text if not self.steered else f"{text} ({self.mixes})"

    @property
    def distinct(self) -> int:
        """How many different mixes are asked for."""
        return min(1, self.steered) if self.mixes == ONE else self.steered

    def check(self, names: Sequence[str]) -> None:
        """EmokernelError if the emotions ``names`` are too few."""
        if self.mixes == BLENDS and len(names) < len(_BLEND):
            raise EmokernelError(
                f"blends need at least {len(_BLEND)} emotions, these vectors have {len(names)}:"
                " leave blends out of --mixes"
            )

    def asked(self, names: Sequence[str]) -> list[Mix | None]:
        """What each sequence asks for, of the emotions ``names``; EmokernelError if too few."""
        self.check(names)
        steered = [self._mix(number, names) for number in range(self.steered)]
        return [*steered, *[None] * (self.batch - self.steered)]

    def _mix(self, number: int, names: Sequence[str]) -> Mix:
        if self.mixes == ONE:
            return {names[0]: 1.0}
        cycle, first = divmod(number, len(names))
        strength = 1.0 - 0.5 * cycle / self.batch  # another one when the emotions begin anew
        weights = (1.0,) if self.mixes == DIFFERENT else _BLEND
        return {
            names[(first + k) % len(names)]: strength * weight for k, weight in enumerate(weights)
        }

    def vectors(self, vectors: EmotionVectors) -> Tensor:
        """The same as one vector per layer and sequence, ``[L, batch, 1, d]``, zero for none."""
        rows = torch.zeros(vectors.num_layers, self.batch, 1, vectors.hidden_size)
        for row, mix in enumerate(self.asked(vectors.names)):
            for name, weight in (mix or {}).items():
                rows[:, row, 0] += weight * vectors[name]
        return rows


def cases(
    batches: Sequence[int], contexts: Sequence[int], shares: Sequence[float], mixes: Sequence[str]
) -> list[Case]:
    """All that differ, in order; a share is rounded to whole sequences, but not to none."""
    found: dict[Case, None] = {}
    for batch, context, share, kind in product(batches, contexts, shares, mixes):
        steered = max(1, round(share * batch)) if share else 0
        # One sequence alone cannot differ from others, and none can differ at all.
        alike = not steered or (steered == 1 and kind == DIFFERENT)
        found[Case(batch, context, steered / batch, ONE if alike else kind)] = None
    return list(found)
