"""repeng, as its README does: a `ControlModel`, `set_control`, `generate` on it."""

from __future__ import annotations

from base import Mix, TransformersDriver
from repeng import ControlModel, ControlVector


class Peer(TransformersDriver):
    """Vectors of several emotions are added by repeng's own arithmetic; preserve is `normalize`."""

    laws = ("add", "preserve")
    packages = ("torch", "transformers", "repeng")

    def prepare(self) -> None:
        kind = self.model.config.model_type
        self._controls = {
            name: ControlVector(kind, {layer: rows[layer].numpy() for layer in self.layers})
            for name, rows in self.vectors.items()
        }
        self.steered = ControlModel(self.steered, self.layers)

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        if not mix:
            self.steered.reset()
            return
        first, *others = (self._controls[name] * weight for name, weight in mix.items())
        self.steered.set_control(sum(others, first), normalize=self.law == "preserve")
