"""The rows that formulas are judged on: of the user's model, and made ones with large features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from emokernel.bench.cases import steered_layers
from emokernel.bench.decode import random_prompt
from emokernel.errors import EmokernelError
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import key_of

_BATCH, _CONTEXT = 4, 32
_MADE_WIDTH, _MADE_ROWS, _MADE_LAYERS = 4096, 64, 32
_OUTLIER = 60.0
# Of the median row, in all that is made: the vector, and what each branch adds.
_MADE_VECTOR, _MADE_BRANCH = 0.1, 0.1


@dataclass(frozen=True)
class LayerRows:
    """One steered layer: the sum of x and residual ``[rows, d]`` is what the law gets there.

    between: what the model adds to the stream from the site before to this one's residual, zeros
    for the first. All in one dtype, on the CPU. vector ``[d]`` fp32 and weight: what is asked for.
    """

    x: Tensor
    residual: Tensor
    between: Tensor
    vector: Tensor
    weight: float

    def to(self, dtype: torch.dtype, rows: Tensor) -> LayerRows:
        """The chosen rows, rounded to ``dtype``."""
        x, residual, between = (t[rows].to(dtype) for t in (self.x, self.residual, self.between))
        return LayerRows(x, residual, between, self.vector, self.weight)

    @property
    def share(self) -> float:
        """The length of weight * vector in those of the median row."""
        median = (self.x.double() + self.residual.double()).norm(dim=-1).median()
        return abs(self.weight) * float(self.vector.double().norm() / median)


@dataclass(frozen=True)
class Rows:
    """Layer by layer, and what they are."""

    name: str
    layers: tuple[LayerRows, ...]

    def to(self, dtype: torch.dtype) -> Rows:
        """Rounded to ``dtype``, without the rows that leave its range somewhere."""
        kept = torch.ones(len(self.layers[0].x), dtype=torch.bool)
        for layer in self.layers:
            for t in (layer.x, layer.residual, layer.between, layer.x + layer.residual):
                kept &= t.to(dtype).isfinite().all(-1)
        if not kept.any():
            raise EmokernelError(f"no row of {self.name} is in the range of {dtype}")
        return replace(self, layers=tuple(layer.to(dtype, kept) for layer in self.layers))


def made_rows() -> Rows:
    """Rows of 4096 normal features of which four are 60 times as large, through 32 layers."""
    generator = torch.Generator().manual_seed(0)
    shape = _MADE_ROWS, _MADE_WIDTH
    scale = torch.ones(_MADE_WIDTH)
    scale[torch.randperm(_MADE_WIDTH, generator=generator)[:4]] = _OUTLIER

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    layers = []
    stream = normal()
    for number in range(_MADE_LAYERS):
        between = _MADE_BRANCH * normal() if number else torch.zeros(shape)
        x = _MADE_BRANCH * normal()
        residual = stream + between
        stream = residual + x
        vector = torch.randn(_MADE_WIDTH, generator=generator)
        vector *= _MADE_VECTOR * stream.norm(dim=-1).median() / vector.norm()
        layers.append(LayerRows(x, residual, between, vector, 1.0))
    return Rows("made", tuple(layers))


def model_rows(model: PreTrainedModel, vectors: EmotionVectors) -> tuple[Rows, str]:
    """The unsteered rows of random tokens at every steered layer, and the emotion asked for.

    4 sequences of 32 tokens. The emotion is the first of the vectors; its weights are those of
    strength 1.0 under the calibration, or 1. EmokernelError if a layer has not one site.
    """
    wanted = steered_layers(vectors)
    steering = patch(
        model, vectors, layers=wanted, site=vectors.site, fuse_norm=False, calibrated=False
    )
    try:
        with recorded(steering) as calls, torch.no_grad():
            prompt = random_prompt(model, _BATCH, _CONTEXT)
            out = model(prompt, use_cache=False, output_hidden_states=True)
    finally:
        steering.unpatch()
    if len(calls) != len(wanted):
        raise EmokernelError(
            f"{len(calls)} sites ran, not one in each of {len(wanted)} layers: numerics are"
            " compared on models whose blocks run once each"
        )
    name, layers, before = vectors.names[0], [], None
    for layer, summands in zip(wanted, calls, strict=True):
        entering = out.hidden_states[layer].flatten(0, -2).cpu()
        x, residual = sorted(summands, key=lambda each: _likeness(each, entering))
        between = torch.zeros_like(x) if before is None else residual - before
        before = x + residual
        vector = vectors[name][layer].float()
        if vector.any():
            layers.append(LayerRows(x, residual, between, vector, _weight(vectors, name, layer)))
    if not layers:
        raise EmokernelError(f"the vectors of {name!r} are zero in every steered layer")
    return Rows("model", tuple(layers)), name


def _likeness(rows: Tensor, stream: Tensor) -> float:
    """The median cosine: a block may write its sum either way round, and the stream is itself."""
    return float(torch.cosine_similarity(rows.double(), stream.double(), dim=-1).median())


def _weight(vectors: EmotionVectors, name: str, layer: int) -> float:
    calibration = vectors.calibration
    if calibration is None:
        return 1.0
    strengths = calibration.strengths.get(key_of("preserve", "absolute")) or {}
    return strengths.get(name, 1.0) * calibration.profile[layer]


@contextmanager
def recorded(steering: Steering) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Both summands ``[rows, d]``, on the CPU, of every call of a row operation in the block."""
    calls: list[tuple[Tensor, Tensor]] = []

    def recording(operation: Callable, summed: bool) -> Callable:
        def run(x: Tensor, *rest: Any) -> Any:
            # An operation on the sum alone: the branch is all of it.
            residual = rest[0] if summed else torch.zeros_like(x)
            calls.append((x.flatten(0, -2).cpu().clone(), residual.flatten(0, -2).cpu().clone()))
            return operation(x, *rest)

        return run

    kept = [(placed, placed.backend) for placed in steering.placed]
    for placed, own in kept:
        steer, add_steer = recording(own.steer, False), recording(own.add_steer, True)
        placed.backend = replace(own, steer=steer, add_steer=add_steer)
    try:
        yield calls
    finally:
        for placed, own in kept:
            placed.backend = own
