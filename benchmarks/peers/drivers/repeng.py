"""repeng, as its README does: a `ControlModel`, `set_control`, `generate` on it.

Rows that ask for different things are given as tensors `[batch, 1, d]` to `set_raw_control`, which
is public, though not in the README.
"""

from __future__ import annotations

from base import Mix, TransformersDriver
from repeng import ControlModel, ControlVector


class Peer(TransformersDriver):
    """Vectors of several emotions are added by repeng's own arithmetic; preserve is `normalize`."""

    laws = ("add", "preserve")
    per_row = True
    packages = ("torch", "transformers", "repeng")

    def prepare(self) -> None:
        kind = self.model.config.model_type
        self._controls = {
            name: ControlVector(kind, {layer: rows[layer].numpy() for layer in self.layers})
            for name, rows in self.vectors.items()
        }
        self.steered = ControlModel(self.steered, self.layers)

    def ask(self, rows: list[Mix | None]) -> None:
        normalize = self.law == "preserve"
        if not any(rows):
            self.steered.reset()
        elif all(row == rows[0] for row in rows):
            first, *others = (self._controls[name] * weight for name, weight in rows[0].items())
            self.steered.set_control(sum(others, first), normalize=normalize)
        else:
            by_row = self.by_row(rows).to(self.model.dtype)
            control = {layer: by_row[layer] for layer in self.layers}
            self.steered.set_raw_control(control, normalize=normalize)
