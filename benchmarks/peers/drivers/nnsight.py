"""nnsight: README "Generate" and "Batch several prompts in one pass" (an `invoke` each).

Not a steering package: people write the addition themselves. `layers[l].output` is the output of
block l, 0-based; inside an `invoke` it is the rows of that prompt alone, so each row may have its
own vector. Where all rows ask for the same, one invoke holds the whole batch.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from base import Mix, TransformersDriver
from nnsight import TransformersModel
from transformers import AutoTokenizer


class Peer(TransformersDriver):
    per_row = True
    packages = (*TransformersDriver.packages, "nnsight")

    def prepare(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(self.model.config.name_or_path)
        self.traced = TransformersModel(self.steered, tokenizer=tokenizer, task="text-generation")
        self.steered = SimpleNamespace(generate=self._traced_generate)

    def ask(self, rows: list[Mix | None]) -> None:
        dtype = next(self.model.parameters()).dtype
        same = all(row == rows[0] for row in rows)
        # One list of vectors [d] an invoke; none where nothing is asked.
        self.invokes = [
            [self.mixed(row)[layer].to(dtype) for layer in self.layers] if row else None
            for row in (rows[:1] if same else rows)
        ]

    def _traced_generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        max_new_tokens: int,
        **options: Any,
    ) -> Any:
        model, layers = self.traced, self.layers
        parts = [input_ids] if len(self.invokes) == 1 else input_ids.split(1)
        with model.generate(max_new_tokens=max_new_tokens, **options) as tracer:
            for part, vectors in zip(parts, self.invokes, strict=True):
                with tracer.invoke(part):
                    if vectors is not None:
                        for _ in tracer.iter[:max_new_tokens]:
                            for layer, vector in zip(layers, vectors, strict=True):
                                model.model.layers[layer].output[:] += vector
            with tracer.invoke():
                result = tracer.result.save()
        return result
