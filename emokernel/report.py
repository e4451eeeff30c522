"""What `patch` did, for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from emokernel.choices import SiteName
from emokernel.errors import ranges
from emokernel.ops import Backend
from emokernel.patch import Patch, PatchedLayer
from emokernel.presets import Settled
from emokernel.vectors import EmotionVectors


@dataclass(frozen=True)
class Report:
    """What `patch` did; ``print`` it."""

    model: str
    backend: str
    site: SiteName
    vectors_site: str
    emotions: tuple[str, ...]
    layers: tuple[PatchedLayer, ...]
    num_layers: int
    slots: int
    strengths: str
    compiled: str

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {len(self.layers)} of {self.num_layers} layers patched at site"
            f" {self.site!r}, backend {self.backend!r}, {self.slots} slots",
        ]
        for (block, operation, norm, reason, other, why), layers in _alike(self.layers).items():
            did = f"{operation} with {norm}" if norm else f"{operation}, norm not fused ({reason})"
            also = f"; its other add computes {other}" if other else ""
            also += f"; its other add does not compute {why}" if why else ""
            lines.append(f"  {block} {ranges(layers)}: {did}{also}")
        if self.site != self.vectors_site:
            lines.append(f"  note: the vectors were made at site {self.vectors_site!r}")
        lines += [
            f"  under torch.compile: {self.compiled}",
            f"  emotions: {', '.join(self.emotions)}",
            f"  strength 1.0: {self.strengths}",
        ]
        return "\n".join(lines)


def report_of(model: nn.Module, patch: Patch, vectors: EmotionVectors, choices: Settled) -> Report:
    """What was done to a model, as it is now."""
    return Report(
        type(model).__name__, patch.backend.name, choices.site, vectors.site, vectors.names,
        tuple(patch.layers), vectors.num_layers, choices.slots, choices.strengths,
        _under_compile(patch.backend),
    )  # fmt: skip


def _under_compile(backend: Backend) -> str:
    """What stands at the steered adds of a compiled model, for the report."""
    if backend.namespace is None:
        return "the law in torch's own operations, which it fuses"
    if backend.fuses_compiled:
        return "the same operations; the other adds are its own"
    return "the law alone; the norms and the other adds are its own"


def _alike(layers: Sequence[PatchedLayer]) -> dict[tuple, list[int]]:
    """The layers to which the same was done, by what it was; norms without their layer's number."""
    groups: dict[tuple, list[int]] = {}
    for layer in layers:
        norms = (layer.norm, layer.not_fused, layer.also_fused, layer.also_not)
        norms = tuple(text and re.sub(r"\b\d+\.", "*.", text) for text in norms)
        key = layer.block, layer.operation, *norms
        groups.setdefault(key, []).append(layer.layer)
    return groups
