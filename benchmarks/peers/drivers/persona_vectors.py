"""persona-vectors: "How generation-steering works" at the head of its `steer_generate`.

The package of this name on PyPI, not the repository of the paper "Persona Vectors". Inside
`tracer.all()` nnterp's `steer` adds factor * vector to the output of block l, 0-based, in every
step. Its `apply_steering` is that for one layer, and cannot be called twice in a generation (the
second layer waits for steps that are over), so its lines are repeated here for several layers.
Versions that steer want Python 3.12, and nnterp below nnsight 0.8.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from base import Mix, TransformersDriver
from nnterp import StandardizedTransformer
from persona_vectors.steer_generate import SteeringSpec
from transformers import AutoTokenizer


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "persona-vectors", "nnterp", "nnsight")

    def prepare(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(self.model.config.name_or_path)
        self.traced = StandardizedTransformer(self.steered, tokenizer=tokenizer)
        self.steered = SimpleNamespace(generate=self._traced_generate)
        self.specs: list[SteeringSpec] = []

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        vector = self.mixed(mix).to(self.model.dtype)
        self.specs = [SteeringSpec(n, vector[n], 1.0) for n in self.layers] if mix else []

    def _traced_generate(self, input_ids: torch.Tensor, **options: Any) -> Any:
        options.pop("attention_mask")  # all ones
        model, specs = self.traced, self.specs
        with model.generate(**options) as tracer:
            with tracer.invoke(input_ids):
                if specs:
                    with tracer.all():
                        for spec in specs:
                            model.steer(spec.layer, spec.vector, spec.coefficient)
            with tracer.invoke():
                result = tracer.result.save()
        return result
