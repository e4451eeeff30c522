"""llm-steer, as "Basic usage" of its README does: `Steer(model, tokenizer)`, `add`, `generate`.

`add` makes a vector of a text, before a block. Here every vector is replaced by the given one, once
it has been added, and what follows block l is steered before block l + 1. Its law is its own: the
vector is brought to the length of the last row of each forward, and `coeff` is a share of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from base import Mix, TransformersDriver
from llm_steer import Steer
from torch import nn


class Peer(TransformersDriver):
    """A mix is one `add` an emotion."""

    packages = ("torch", "transformers", "llm-steer")
    own_law = "each vector as long as the last row, times the weight"

    def prepare(self) -> None:
        if self.layers[-1] + 1 >= self.model.config.num_hidden_layers:
            raise ValueError("llm-steer steers before a block: leave the last layer out")
        Steer.steers.clear()  # of the class: those of a model loaded before
        self._steer = Steer(self.steered, _AnyText())

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        self._steer.reset_all()
        for name, weight in (mix or {}).items():
            for layer in self.layers:
                self._steer.add(layer_idx=layer + 1, coeff=weight, text=name)
                added = self._steer.steers[layer + 1].steer_vectors[-1]
                added.tensor = self.vectors[name][layer].reshape(1, 1, -1).to(self.model.dtype)

    @contextmanager
    def hooked(self) -> Iterator[nn.Module]:
        """Plain hooks that compute the law of its own."""
        blocks = self.model.model.layers
        handles = [blocks[layer].register_forward_hook(self._hook(layer)) for layer in self.layers]
        try:
            yield self.model
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int) -> Any:
        mix = self.rows[0] or {}
        unit = [w * nn.functional.normalize(self.vectors[n][layer], dim=0) for n, w in mix.items()]

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            for direction in unit:
                length = hidden[:, -1:].float().norm(dim=-1, keepdim=True)
                hidden = hidden + (length * direction).to(hidden.dtype)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook


class _AnyText:
    """In the place of a tokenizer: the vector that a text makes is not kept."""

    def encode(self, text: str, **options: Any) -> list[int]:
        return [0]
