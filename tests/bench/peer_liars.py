"""Drivers of benchmarks/peers that do something else than what they are asked."""

from __future__ import annotations

import torch
from base import Mix, TransformersDriver, add_hooks
from drivers import plain_hook


class Nothing(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        pass


class Twice(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        super().ask([{name: 2 * w for name, w in row.items()} if row else None for row in rows])


class FirstRow(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        super().ask([rows[0], *[None] * (len(rows) - 1)])


class EveryRow(plain_hook.Peer):
    """Of a batch whose rows differ, all are steered by the first."""

    def ask(self, rows: list[Mix | None]) -> None:
        super().ask([rows[0]] * len(rows))


class AddsUnderAnyLaw(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        self.law = "add"
        super().ask(rows)
        self.law = "preserve"


class NextLayer(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        self.layers = [layer + 1 for layer in self.layers]
        super().ask(rows)
        self.layers = [layer - 1 for layer in self.layers]


class NeverOff(plain_hook.Peer):
    def ask(self, rows: list[Mix | None]) -> None:
        if any(rows):
            super().ask(rows)


class OnThePromptOnly(plain_hook.Peer):
    def prepare(self) -> None:
        super().prepare()
        off = lambda module, args, kwargs: self._once(kwargs)  # noqa: E731
        self.steered.register_forward_pre_hook(off, with_kwargs=True)

    def _once(self, kwargs: dict) -> None:
        if kwargs["input_ids"].shape[1] == 1:
            for handle in self._handles:
                handle.remove()


class InPlace(TransformersDriver):
    """Steers the unpatched model as well."""

    def prepare(self) -> None:
        self._handles: list = []

    def ask(self, rows: list[Mix | None]) -> None:
        for handle in self._handles:
            handle.remove()
        vectors = [self.by_row(rows[:1])[layer] for layer in self.layers]
        self._handles = add_hooks(self.model, self.layers, vectors) if rows[0] else []
        self.steered = self.model


class AnotherModel(plain_hook.Peer):
    """Weights that are not those of the folder."""

    def prepare(self) -> None:
        super().prepare()
        with torch.no_grad():
            next(self.model.parameters()).mul_(1.5)
