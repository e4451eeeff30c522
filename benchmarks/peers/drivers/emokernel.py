"""emokernel, as its README says under "Ten lines"."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from base import Mix, TransformersDriver

import emokernel


class Peer(TransformersDriver):
    """`steering.set` where all rows ask for the same, `steering.requests` otherwise."""

    laws = ("add", "preserve")
    per_row = True

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "emokernel": emokernel.__version__}

    def prepare(self) -> None:
        vectors = emokernel.EmotionVectors.from_tensors(self.vectors, site="block")
        self._handle = emokernel.patch(self.steered, vectors, layers=self.layers, law=self.law)
        self._requests: list[Mix | None] | None = None

    def ask(self, rows: list[Mix | None]) -> None:
        alike = all(row == rows[0] for row in rows)
        self._requests = None if alike else rows
        self._handle.off()
        if alike:
            self._handle.set(rows[0])

    def steering(self) -> AbstractContextManager[Any]:
        if self._requests is None:
            return nullcontext()
        return self._handle.requests(self._requests)
