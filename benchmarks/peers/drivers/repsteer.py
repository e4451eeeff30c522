"""repsteer: README "Quickstart" (`Intervention`, `with model.steer(plan): model.generate(...)`).

One intervention a layer and emotion: `resid_post(l)` is the output of block l, 0-based; `Add` and
`Constant(weight)` are weight * vector, with both rounded to the model's dtype first. The README's
example steers generated tokens alone; `AllTokens` with phase "both" is what the other peers do.
Rows differ by a gate that gives one weight of [0, 1] for each sequence (README "Gates",
`CallableGate`); where all rows ask for the same there is no gate, as in the example.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import repsteer as rs
import torch
from base import Cannot, Mix, TransformersDriver


class Peer(TransformersDriver):
    per_row = True
    packages = (*TransformersDriver.packages, "repsteer")

    def prepare(self) -> None:
        self.wrapper = rs.models.from_model(self.steered, model_id="model", revision="1")
        self.steered = SimpleNamespace(
            generate=lambda **options: self.wrapper.generate(**options).raw
        )
        self.compiled: Any = None

    def ask(self, rows: list[Mix | None]) -> None:
        asked = {emotion for row in rows for emotion in row or ()}
        interventions = []
        for emotion in sorted(asked):
            weights = torch.tensor([(row or {}).get(emotion, 0.0) for row in rows])
            strongest = weights[weights.abs().argmax()].item()
            if (weights * strongest < 0).any():
                raise Cannot("a gate lies in [0, 1]: one emotion has one sign in a batch")
            if strongest:
                gate = self._gate(weights / strongest)
                interventions += [
                    self._add(layer, emotion, strongest, gate) for layer in self.layers
                ]
        self.compiled = (
            self.wrapper.compile(rs.SteeringPlan(interventions)) if interventions else None
        )

    def steering(self) -> AbstractContextManager[Any]:
        return self.wrapper.steer(self.compiled) if self.compiled else nullcontext()

    @staticmethod
    def _gate(shares: torch.Tensor) -> Any:
        if (shares == 1).all():
            return rs.gates.Always()
        return rs.gates.CallableGate(lambda context: shares)

    def _add(self, layer: int, emotion: str, strength: float, gate: Any) -> Any:
        site = rs.sites.resid_post(layer)
        metadata = rs.ArtifactMetadata(model_id="model", model_revision="1", site=site)
        return rs.Intervention(
            artifact=rs.artifacts.DirectionArtifact(metadata, self.vectors[emotion][layer]),
            operator=rs.operators.Add(),
            positions=rs.positions.AllTokens(),
            strength=rs.schedules.Constant(strength),
            gate=gate,
            phase="both",
        )
