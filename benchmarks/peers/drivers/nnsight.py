"""nnsight: README "Generate", with the addition that people write themselves.

Not a steering package. `layers[l].output` is the output of block l, 0-based, of the whole batch in
one `invoke`: rows that ask for different things are added one tensor with a vector for each. An
invoke for each row (README "Batch several prompts in one pass") is the other way, with more Python.
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
        same = all(row == rows[0] for row in rows)
        by_row = self.by_row(rows[:1] if same else rows).to(self.model.dtype)
        self.added = [by_row[layer] for layer in self.layers] if any(rows) else []

    def _traced_generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        max_new_tokens: int,
        **options: Any,
    ) -> Any:
        model, layers, added = self.traced, self.layers, self.added
        with model.generate(max_new_tokens=max_new_tokens, **options) as tracer:
            with tracer.invoke(input_ids):
                if added:
                    for _ in tracer.iter[:max_new_tokens]:
                        for layer, vectors in zip(layers, added, strict=True):
                            model.model.layers[layer].output[:] += vectors
            with tracer.invoke():
                result = tracer.result.save()
        return result
