"""pyvene: tutorial "Activation Addition" (`AdditionIntervention`, `source_representations`).

`block_output` of layer l is the output of block l, 0-based. `generate` with `intervene_on_prompt`
and no locations adds at every position, in the prompt and at each generated token.
Its addition takes one vector for the batch, or one for each row and position: none for each row.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyvene as pv
import torch
from base import Mix, TransformersDriver


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "pyvene")

    def prepare(self) -> None:
        self.intervenable = pv.IntervenableModel(
            [
                {
                    "layer": layer,
                    "component": "block_output",
                    "intervention_type": pv.AdditionIntervention,
                }
                for layer in self.layers
            ],
            model=self.steered,
        )
        self.bare, self.steered = self.steered, SimpleNamespace(generate=self._intervened)

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        vector = self.mixed(mix).to(self.model.dtype)
        self.sources = [vector[layer] for layer in self.layers] if mix else None

    def _intervened(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any
    ) -> Any:
        base = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.sources is None:
            return self.bare.generate(**base, **options)
        names = self.intervenable.sorted_keys
        _, steered = self.intervenable.generate(
            base,
            source_representations=dict(zip(names, self.sources, strict=True)),
            intervene_on_prompt=True,
            **options,
        )
        return steered
