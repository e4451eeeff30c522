"""What is measured: the cases of a sweep, each a batch with what its sequences ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from emokernel.errors import EmokernelError, ranges
from emokernel.reference import MAX_COMPONENTS
from emokernel.vectors import EmotionVectors

# How many different mixes there are, in words.
ONE, DIFFERENT, BLENDS = "one", "different", "blends"
MIXES = (ONE, DIFFERENT, BLENDS)
_BLEND = 3
# Every layer that the vectors are steered in where no others are chosen.
ALL = "all"

Mix = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """``batch`` sequences behind ``context`` tokens, of which the first ``share`` is steered.

    ``mixes``: how many different ones they ask for, in turn. ``components``: vectors of each mix.
    ``layers``: "all" that the vectors have, or such as "8-15, 20".
    """

    batch: int = 1
    context: int = 64
    share: float = 1.0
    mixes: int = 1
    components: int = 1
    layers: str = ALL

    @property
    def steered(self) -> int:
        """How many sequences are steered."""
        return round(self.share * self.batch)

    @property
    def distinct(self) -> int:
        """How many different mixes are asked for."""
        return min(self.mixes, self.steered)

    def __str__(self) -> str:
        text = f"batch {self.batch}, context {self.context}, {self.steered} steered"
        if self.steered:
            mixes = "1 mix" if self.mixes == 1 else f"{self.mixes} mixes"
            parts = "" if self.components == 1 else f" of {self.components} vectors"
            text = f"{text} ({mixes}{parts})"
        return text if self.layers == ALL else f"{text}, layers {self.layers}"

    @property
    def slug(self) -> str:
        """A part of a file name that no other case has."""
        parts = f"b{self.batch}-c{self.context}-s{self.steered}-m{self.distinct}"
        parts += "" if self.components == 1 else f"-v{self.components}"
        layers = self.layers.replace(", ", "_")
        return parts if self.layers == ALL else f"{parts}-l{layers}"

    def check(self, names: Sequence[str]) -> None:
        """EmokernelError if the emotions ``names`` are too few."""
        if self.steered and self.components > len(names):
            there = "is 1 emotion" if len(names) == 1 else f"are {len(names)} emotions"
            raise EmokernelError(
                f"{self}: {self.components} vectors a mix, but there {there}:"
                f" at most {len(names)} in --components"
                + (", and no blends in --mixes" if len(names) < _BLEND else "")
            )

    def asked(self, names: Sequence[str]) -> list[Mix | None]:
        """What each sequence asks for, of the emotions ``names``; EmokernelError if too few."""
        self.check(names)
        steered = [self._mix(row % max(self.mixes, 1), names) for row in range(self.steered)]
        return [*steered, *[None] * (self.batch - self.steered)]

    def _mix(self, number: int, names: Sequence[str]) -> Mix:
        cycle, first = divmod(number, len(names))
        strength = 1.0 - 0.5 * cycle / self.batch  # another one when the emotions begin anew
        parts = range(self.components, 0, -1)  # no two weights of a mix are alike
        return {
            names[(first + k) % len(names)]: strength * part / sum(parts)
            for k, part in enumerate(parts)
        }

    def vectors(self, vectors: EmotionVectors) -> Tensor:
        """The same as one vector per layer and sequence, ``[L, batch, 1, d]``, zero for none."""
        rows = torch.zeros(vectors.num_layers, self.batch, 1, vectors.hidden_size)
        for row, mix in enumerate(self.asked(vectors.names)):
            for name, weight in (mix or {}).items():
                rows[:, row, 0] += weight * vectors[name]
        return rows

    def steered_layers(self, vectors: EmotionVectors) -> list[int]:
        """The numbers of ``layers``, sorted; EmokernelError for what these vectors have not."""
        if self.layers == ALL:
            return steered_layers(vectors)
        return vectors.layers_to_steer(numbers_of(self.layers))

    def located(self, vectors: EmotionVectors) -> Case:
        """The same case with its layers called "all" where they are all of these vectors'."""
        layers = self.steered_layers(vectors)
        return replace(self, layers=ALL if layers == steered_layers(vectors) else ranges(layers))


def steered_layers(vectors: EmotionVectors) -> list[int]:
    """The layers that `patch` steers with these vectors where no others are chosen."""
    if vectors.calibration is None:
        return list(vectors.layers)
    return [layer for layer, weight in enumerate(vectors.calibration.profile) if weight]


def numbers_of(layers: str) -> list[int]:
    """Sorted layers of such as "8-15,20"; EmokernelError for what is none."""
    found: set[int] = set()
    for part in layers.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise EmokernelError(f"{layers!r} are no layers: write all, 15, 8-15 or 8-15,20")
        found |= {*range(first, last + 1)}
    return sorted(found)


class Sweep(NamedTuple):
    """The cases of a sweep, and those that cannot be: more different mixes than are steered."""

    cases: list[Case]
    left_out: list[Case]


def sweep(
    batches: Sequence[int],
    contexts: Sequence[int],
    shares: Sequence[float],
    mixes: Sequence[str | int],
    components: Sequence[int] = (1,),
    layers: Sequence[str] = (ALL,),
) -> Sweep:
    """Every combination that differs from the others, in order.

    A share is rounded to whole sequences, but not to none. ``mixes``: numbers, or "one",
    "different" (as many as are steered) and "blends" (different ones of three vectors). Layers that
    are written in two ways are told apart still; `Case.located` brings them together.
    """
    for count in components:
        if not 1 <= count <= MAX_COMPONENTS:
            raise EmokernelError(f"--components are 1 to {MAX_COMPONENTS} vectors, got {count}")
    found: dict[Case, None] = {}
    impossible: dict[Case, None] = {}
    where = [ALL if each == ALL else ranges(numbers_of(each)) for each in layers]
    # What is run alike stays together: preparing it takes time.
    for batch, context, of, share, kind, parts in product(
        batches, contexts, where, shares, mixes, components
    ):
        steered = max(1, round(share * batch)) if share else 0
        words = {ONE: 1, DIFFERENT: steered, BLENDS: steered}
        count = words[kind] if isinstance(kind, str) else kind
        parts = _BLEND if kind == BLENDS else parts
        if not steered:
            found[Case(batch, context, 0.0, 0, 1, of)] = None
            continue
        case = Case(batch, context, steered / batch, count, parts, of)
        (found if count <= steered else impossible)[case] = None
    return Sweep(list(found), list(impossible))


def cases(*axes: Sequence) -> list[Case]:
    """The cases of `sweep`, without those that cannot be."""
    return sweep(*axes).cases
