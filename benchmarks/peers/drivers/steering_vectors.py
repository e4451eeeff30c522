"""steering-vectors, as "Basic usage" of its documentation does: `generate` within `apply`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from base import Mix, TransformersDriver
from steering_vectors import SteeringVector


class Peer(TransformersDriver):
    """One `SteeringVector` a mix, and its weight the multiplier where there is one emotion."""

    packages = ("torch", "transformers", "steering-vectors")

    def prepare(self) -> None:
        self._vector: SteeringVector | None = None

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        self._vector, self._multiplier = None, 1.0
        if mix and len(mix) == 1:
            ((name, self._multiplier),) = mix.items()
            self._vector = self._of(self.vectors[name])
        elif mix:
            self._vector = self._of(self.mixed(mix))

    def steering(self) -> AbstractContextManager[Any]:
        if self._vector is None:
            return nullcontext()
        return self._vector.apply(self.steered, multiplier=self._multiplier)

    def _of(self, rows: Any) -> SteeringVector:
        dtype = self.model.dtype
        return SteeringVector({layer: rows[layer].to(dtype) for layer in self.layers})
