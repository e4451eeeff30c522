"""What a user writes who uses no library: a forward hook on each steered block."""

from __future__ import annotations

from base import Mix, TransformersDriver, add_hooks
from torch import Tensor


class Peer(TransformersDriver):
    """One vector for all rows where they ask for the same, one each otherwise."""

    laws = ("add", "preserve")
    per_row = True

    def prepare(self) -> None:
        self._handles: list = []

    def ask(self, rows: list[Mix | None]) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if any(rows):
            self._handles = add_hooks(self.steered, self.layers, self._vectors(rows), self.law)

    def _vectors(self, rows: list[Mix | None]) -> list[Tensor]:
        alike = all(row == rows[0] for row in rows)
        by_row = self.by_row(rows[:1] if alike else rows).to(self.model.dtype)
        return [by_row[layer] for layer in self.layers]
