"""`NamedVectors`: what a set of emotion vectors is, without what can be done with it.

Formats read and write it and the algebra changes it; `EmotionVectors` adds the methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from emokernel.choices import SITE
from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.vectors.calibration import Calibration


@dataclass(frozen=True, eq=False)
class NamedVectors:
    """Named vectors ``[L, E, d]`` fp32 of a model with L layers and hidden size d.

    ``site`` says which space they live in: "attention", differences of the attention branch's own
    output, or "block", differences of the residual stream after the block. A layer without vectors
    is all zero. ``provenance`` names what they were made from, ``diagnostics`` what was measured of
    them when they were extracted (`emokernel.lab.extract.diagnostics`), ``calibration`` what
    strength 1.0 means; without one it means the vectors as they are.

    Immutable: the tensor is a copy of its own. Raises EmokernelError for another shape, names that
    are empty or not distinct, numbers that are not finite and a calibration of other layers.
    """

    names: tuple[str, ...]
    tensor: Tensor
    site: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        SITE.check(self.site)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "tensor", self.tensor.detach().to("cpu", torch.float32, copy=True))
        if self.tensor.dim() != 3 or self.tensor.shape[1] != len(self.names):
            raise EmokernelError(
                f"emotion vectors need a tensor [layers, {len(self.names)} emotions, hidden size],"
                f" got {list(self.tensor.shape)}"
            )
        if len(set(self.names)) != len(self.names) or not all(self.names):
            raise EmokernelError("emotion names must be distinct and not empty")
        if not torch.isfinite(self.tensor).all():
            raise EmokernelError("emotion vectors must be finite: the tensor holds inf or nan")
        if self.calibration and len(self.calibration.profile) != self.tensor.shape[0]:
            raise EmokernelError(
                f"the calibration is for {len(self.calibration.profile)} layers, the vectors have"
                f" {self.tensor.shape[0]}"
            )

    @property
    def num_layers(self) -> int:
        """L, the number of layers of the model."""
        return self.tensor.shape[0]

    @property
    def hidden_size(self) -> int:
        """d, the width of the residual stream."""
        return self.tensor.shape[2]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have a vector other than zero."""
        return tuple(self.tensor.flatten(1).any(1).nonzero().flatten().tolist())

    def index(self, name: str) -> int:
        """The number of an emotion; UnknownEmotionError with the nearest spelling otherwise."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownEmotionError(name, self.names) from None

    def __getitem__(self, name: str) -> Tensor:
        """The vectors ``[L, d]`` of one emotion."""
        return self.tensor[:, self.index(name)]

    def layers_to_steer(self, layers: Sequence[int] | None) -> list[int]:
        """The layers to steer, sorted: ``layers``, or all that the vectors have.

        EmokernelError for what is no list of layer numbers, or where there is nothing to steer.
        """
        if layers is None:
            chosen = list(self.layers)
        else:
            if not isinstance(layers, Iterable) or not all(isinstance(n, int) for n in layers):
                raise EmokernelError(f"layers needs a list of layer numbers, got {layers!r}")
            chosen = sorted(set(layers))
            unknown = [layer for layer in chosen if not 0 <= layer < self.num_layers]
            if unknown:
                raise EmokernelError(
                    f"no such layers: {unknown}; these vectors have 0 to {self.num_layers - 1}"
                )
        if not self.layers:
            raise EmokernelError(
                "there is no layer to steer: the vectors are zero in all of them; extract them"
                " again"
            )
        if set(chosen).isdisjoint(self.layers):
            raise EmokernelError(
                f"there is no layer to steer: the vectors are zero in layers {chosen}, other than"
                f" in {list(self.layers)}"
            )
        return chosen
