"""What one request asks for, once its emotion is resolved: a mix of vectors, and where."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from emokernel.errors import SteeringError
from emokernel.reference import MAX_COMPONENTS, Law

# The slot of a row that is left as it is.
UNTOUCHED = -1

# The words of a mix, whatever the layer: ids, law, weights.
HEAD = struct.Struct(f"={MAX_COMPONENTS}ii{MAX_COMPONENTS}f")
HEAD_WORDS = HEAD.size // 4

# Whether prompt tokens, the last of them, and generated ones are steered.
Kinds = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Mix:
    """What a slot holds: up to 8 (vector number, weight) pairs and a law.

    With `Law.RELATIVE` a weight counts in units of the row's norm. Raises SteeringError for too
    many components or a weight that is not finite.
    """

    components: tuple[tuple[int, float], ...]
    law: Law = Law.PRESERVE

    def __post_init__(self) -> None:
        if len(self.components) > MAX_COMPONENTS:
            raise SteeringError(
                f"a mix of {len(self.components)} emotions is too large: the kernels hold up to"
                f" {MAX_COMPONENTS}"
            )
        limit = torch.finfo(torch.float32).max
        for _, weight in self.components:
            if not abs(weight) <= limit:
                raise SteeringError(f"strength must be a finite fp32 number, got {weight}")

    @cached_property
    def head(self) -> bytes:
        """The mix as `HEAD`, for `DeviceState.write_all`."""
        left = MAX_COMPONENTS - len(self.components)
        numbers, weights = zip(*self.components, *[(0, 0.0)] * left, strict=True)
        return HEAD.pack(*numbers, int(self.law), *weights)


class Asked(NamedTuple):
    """A resolved request; ``mix`` None: nothing is to be steered."""

    mix: Mix | None
    kinds: Kinds
