"""`NamedVectors`: what a set of emotion vectors is, and its algebra.

Formats read and write it; `EmotionVectors` adds the methods that do so. Every operation is layer by
layer, works in fp64 where sums cancel, and gives new vectors: those it was called on stay as they
are. What was done to numbers is appended to the provenance's ``history``. What was measured of the
old vectors does not hold for changed ones, so their diagnostics and calibration are left out;
`select` and `renamed` change no numbers and keep the strengths. An operation that leaves nothing of
an emotion in any layer is an error, since steering by it would do nothing. Only a factor or weight
of 0 may ask for that; `without`, whose right answer it can be, warns.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Self

import torch
from torch import Tensor

from emokernel.choices import SITE
from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.vectors.calibration import Calibration

# Directions count as dependent below this share of the largest singular value.
_RANK_TOLERANCE = 1e-6
# Below this share of a vector's length, a part of it is rounding of its fp32 numbers.
_NOISE = 1e-6


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
        if self.calibration and len(self.calibration.profile) != self.num_layers:
            raise EmokernelError(
                f"the calibration is for {len(self.calibration.profile)} layers, the vectors have"
                f" {self.num_layers}"
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
        chosen = list(self.layers) if layers is None else self._existing(layers)
        if set(chosen).isdisjoint(self.layers):
            where = f"in layers {chosen}, other than in {list(self.layers)}"
            raise EmokernelError(
                "there is no layer to steer: the vectors are zero "
                + (where if self.layers else "in all of them; extract them again")
            )
        return chosen

    def _existing(self, layers: Iterable[int]) -> list[int]:
        if not isinstance(layers, Iterable) or not all(isinstance(n, int) for n in layers):
            raise EmokernelError(f"layers needs a list of layer numbers, got {layers!r}")
        chosen = sorted(set(layers))
        unknown = [layer for layer in chosen if not 0 <= layer < self.num_layers]
        if unknown:
            raise EmokernelError(
                f"no such layers: {unknown}; these vectors have 0 to {self.num_layers - 1}"
            )
        return chosen

    def select(self, names: Iterable[str]) -> Self:
        """The same vectors with only ``names``, in that order; strengths are kept."""
        names = tuple(names)
        chosen = self.tensor[:, [self.index(name) for name in names]]
        kept = self._calibration_of({name: name for name in names})
        return replace(self, names=names, tensor=chosen, diagnostics={}, calibration=kept)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """With ``{old name: new name}``; the others keep theirs."""
        for name in names:
            self.index(name)
        new = {name: names.get(name, name) for name in self.names}
        kept = self._calibration_of(new)
        return replace(self, names=tuple(new.values()), calibration=kept)

    def merged(self, other: NamedVectors) -> Self:
        """These emotions and those of ``other``; the provenance is that of these.

        EmokernelError for another number of layers, width or site, or a name that occurs twice.
        """
        shapes = [(each.num_layers, each.hidden_size, each.site) for each in (self, other)]
        if shapes[0] != shapes[1]:
            own, theirs = (f"{of[0]} layers x {of[1]} at site {of[2]!r}" for of in shapes)
            raise EmokernelError(f"cannot merge vectors of {theirs} into {own}")
        names = [*self.names, *other.names]
        tensor = torch.cat([self.tensor, other.tensor], dim=1)
        return self._changed(tensor, f"merged with {', '.join(other.names)}", names, names)

    def scaled(self, factor: float | Mapping[str, float]) -> Self:
        """Times one factor, or ``{emotion: factor}``, where those not named stay as they are."""
        factors = factor if isinstance(factor, Mapping) else dict.fromkeys(self.names, factor)
        column = torch.ones(len(self.names), 1, dtype=torch.float32)
        for name, value in factors.items():
            if not isinstance(value, Real):
                raise EmokernelError(f"the factor of {name!r} must be a number, got {value!r}")
            column[self.index(name)] = float(value)
        zeroed = [name for name, value in factors.items() if not value]
        return self._changed(self.tensor * column, f"scaled by {factor}", zeroed=zeroed)

    def mixed(self, mixes: Mapping[str, Mapping[str, float]]) -> Self:
        """With new emotions beside the old: ``{new name: {emotion: weight}}``."""
        rows = []
        for weights in mixes.values():
            row = torch.zeros(self.num_layers, self.hidden_size, dtype=torch.float64)
            size = torch.zeros(self.num_layers, 1, dtype=torch.float64)
            for name, weight in weights.items():
                part = float(weight) * self[name].double()
                row, size = row + part, size + part.norm(dim=1, keepdim=True)
            rows.append(_without_noise(row, size).float())
        recipes = {name: dict(weights) for name, weights in mixes.items()}
        tensor = torch.cat([self.tensor, *(row[:, None] for row in rows)], dim=1)
        zeroed = [name for name, weights in mixes.items() if not any(weights.values())]
        return self._changed(tensor, f"mixed {recipes}", [*self.names, *mixes], zeroed=zeroed)

    def base(self) -> Tensor:
        """``[L, d]``: what the emotions have in common, their mean (EV_base of arXiv 2502.04075
        by its name; the paper's own definition is not public).
        """
        return self.tensor.double().mean(dim=1).float()

    def residual(self, share: float = 1.0) -> Self:
        """Less ``share`` of the base: what tells the emotions apart."""
        rest = self.tensor.double() - share * self.tensor.double().mean(dim=1, keepdim=True)
        return self._changed(_without_noise(rest, self._norms()), f"less {share:g} of the base")

    def without(self, directions: Tensor) -> Self:
        """The part orthogonal to all ``directions``: ``[L, d]``, or ``[L, k, d]``."""
        given = directions[:, None] if directions.dim() == 2 else directions
        if given.dim() != 3 or given.shape[::2] != self.tensor.shape[::2]:
            raise EmokernelError(
                f"directions need the shape [{self.num_layers}, k, {self.hidden_size}],"
                f" got {list(given.shape)}"
            )
        _, singular, right = torch.linalg.svd(given.double(), full_matrices=False)
        largest = singular.amax(dim=1, keepdim=True)
        right = right * (singular > _RANK_TOLERANCE * largest)[..., None]
        own = self.tensor.double()
        rest = _without_noise(own - own @ right.transpose(1, 2) @ right, self._norms())
        what, lost = "directions projected out", self._lost(rest, self.names)
        if lost:
            names = ", ".join(map(repr, lost))
            warnings.warn(
                f"{what}, nothing is left of {names}: steering by it does nothing", stacklevel=2
            )
        return self._changed(rest, what, zeroed=lost)

    def orthogonalised(self) -> Self:
        """Orthogonal to each other in every layer, with the norms that they had.

        The orthogonal set nearest to the unit vectors, which treats all alike (Löwdin 1950, J.
        Chem. Phys. 18:365). EmokernelError for emotions that depend on each other linearly.
        """
        result = self.tensor.double()
        for layer in self.layers:
            rows = result[layer]
            norms = rows.norm(dim=1, keepdim=True)
            unit = rows / norms.clamp_min(torch.finfo(torch.float64).tiny)
            left, singular, right = torch.linalg.svd(unit, full_matrices=False)
            if len(singular) < len(rows) or singular[-1] <= _RANK_TOLERANCE * singular[0]:
                raise EmokernelError(
                    f"layer {layer}: the emotions depend on each other linearly, or one is zero;"
                    " orthogonalise fewer of them"
                )
            result[layer] = norms * (left @ right)
        return self._changed(result, "orthogonalised symmetrically")

    def with_profile(self, profile: Sequence[float] | Tensor) -> Self:
        """Each layer times its number of the layer profile ``[L]``; 0 leaves the layer alone."""
        column = torch.as_tensor(profile, dtype=torch.float64)
        if column.shape != (self.num_layers,):
            raise EmokernelError(
                f"a layer profile needs {self.num_layers} numbers, got {list(column.shape)}"
            )
        rounded = [round(number, 6) for number in column.tolist()]
        return self._changed(self.tensor.double() * column[:, None, None], f"profile {rounded}")

    def at_layers(self, layers: Iterable[int]) -> Self:
        """Only these layers, the others zero. EmokernelError for a layer that does not exist."""
        chosen = self._existing(layers)
        return self.with_profile([float(layer in chosen) for layer in range(self.num_layers)])

    def _norms(self) -> Tensor:
        return self.tensor.double().norm(dim=-1, keepdim=True)

    def _lost(self, tensor: Tensor, names: Sequence[str]) -> list[str]:
        """The names that are zero in ``tensor``, other than those that are zero here."""
        absent = {name for name in self.names if not self[name].any()}
        return [n for at, n in enumerate(names) if n not in absent and not tensor[:, at].any()]

    def _changed(
        self,
        tensor: Tensor,
        what: str,
        names: Sequence[str] | None = None,
        zeroed: Collection[str] = (),
    ) -> Self:
        """New vectors of this tensor; EmokernelError for an emotion that is zero all at once.

        Those that were zero before, and ``zeroed``, may be.
        """
        names = self.names if names is None else tuple(names)
        lost = [repr(name) for name in self._lost(tensor, names) if name not in zeroed]
        if lost:
            raise EmokernelError(
                f"{what}, the vectors of {', '.join(lost)} are zero in every layer, and steering by"
                " them would do nothing: select the emotions without, or change what is taken away"
            )
        history = [*self.provenance.get("history", ()), what]
        return replace(
            self, names=names, tensor=tensor, provenance={**self.provenance, "history": history},
            diagnostics={}, calibration=None,
        )  # fmt: skip

    def _calibration_of(self, names: Mapping[str, str]) -> Calibration | None:
        """That of the emotions ``{old: new}``; of all, or the circle is not theirs."""
        old = self.calibration
        if old is None:
            return None
        strengths = {
            key: {new: weights[name] for name, new in names.items() if name in weights}
            for key, weights in old.strengths.items()
        }
        if len(names) == len(self.names) and all(a == b for a, b in names.items()):
            return replace(old, strengths=strengths)
        # The emotions beside a point of the circle may be others now.
        return replace(old, strengths=strengths, circle={}, mapping="wheel")


def _without_noise(parts: Tensor, sizes: Tensor) -> Tensor:
    """Parts, those that are but rounding of vectors of ``sizes`` zero: a dose may blow them up."""
    return torch.where(parts.norm(dim=-1, keepdim=True) > _NOISE * sizes, parts, 0.0)
