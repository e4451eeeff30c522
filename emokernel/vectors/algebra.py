"""The algebra of emotion vectors: mixes, scaling, base and residual, projections, profiles.

`EmotionVectors` has these functions as its methods. Every operation is layer by layer, works in
fp64 where sums cancel, and gives new vectors: those it was called on stay as they are. What was
done to numbers is appended to the provenance's ``history``. What was measured of the old vectors
does not hold for changed ones, so their diagnostics and calibration are left out; `select` and
`renamed` change no numbers and keep the strengths. An operation that leaves nothing of an emotion
in any layer is an error, since steering by it would do nothing. Only a factor, norm or weight of 0
may ask for that; a projection, whose right answer it can be, warns.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.named_vectors import NamedVectors

V = TypeVar("V", bound=NamedVectors)

# Directions count as dependent below this share of the largest singular value.
_RANK_TOLERANCE = 1e-6
# Below this share of a vector's length, a part of it is rounding of its fp32 numbers.
_NOISE = 1e-6


def select(vectors: V, names: Iterable[str]) -> V:
    """The same vectors with only ``names``, in that order; strengths are kept."""
    names = tuple(names)
    chosen = vectors.tensor[:, [vectors.index(name) for name in names]]
    kept = _calibration_of(vectors, {name: name for name in names})
    return replace(vectors, names=names, tensor=chosen, diagnostics={}, calibration=kept)


def renamed(vectors: V, names: Mapping[str, str]) -> V:
    """With ``{old name: new name}``; the others keep theirs."""
    for name in names:
        vectors.index(name)
    new = {name: names.get(name, name) for name in vectors.names}
    kept = _calibration_of(vectors, new)
    return replace(vectors, names=tuple(new.values()), calibration=kept)


def merged(vectors: V, *others: NamedVectors) -> V:
    """These emotions and those of ``others``, of as many layers, the same width and site.

    The provenance is that of the first.

    EmokernelError for another shape or site, or a name that occurs twice.
    """
    shape = vectors.num_layers, vectors.hidden_size, vectors.site
    for other in others:
        if (other.num_layers, other.hidden_size, other.site) != shape:
            raise EmokernelError(
                f"cannot merge vectors of {other.num_layers} layers x {other.hidden_size} at"
                f" site {other.site!r} into {shape[0]} x {shape[1]} at site {shape[2]!r}"
            )
    names = [name for each in (vectors, *others) for name in each.names]
    tensor = torch.cat([each.tensor for each in (vectors, *others)], dim=1)
    return _changed(vectors, tensor, f"merged with {len(others)} more", names, zeroed=names)


def scaled(vectors: V, factor: float | Mapping[str, float]) -> V:
    """Times one factor, or ``{emotion: factor}``, where those not named stay as they are."""
    factors = factor if isinstance(factor, Mapping) else dict.fromkeys(vectors.names, factor)
    column = torch.ones(len(vectors.names), 1, dtype=torch.float32)
    for name, value in factors.items():
        if not isinstance(value, Real):
            raise EmokernelError(f"the factor of {name!r} must be a number, got {value!r}")
        column[vectors.index(name)] = float(value)
    zeroed = [name for name, value in factors.items() if not value]
    return _changed(vectors, vectors.tensor * column, f"scaled by {factor}", zeroed=zeroed)


def mixed(vectors: V, mixes: Mapping[str, Mapping[str, float]]) -> V:
    """With new emotions beside the old: ``{new name: {emotion: weight}}``."""
    rows = []
    for weights in mixes.values():
        row = torch.zeros(vectors.num_layers, vectors.hidden_size, dtype=torch.float64)
        size = torch.zeros(vectors.num_layers, 1, dtype=torch.float64)
        for name, weight in weights.items():
            part = float(weight) * vectors[name].double()
            row, size = row + part, size + part.norm(dim=1, keepdim=True)
        rows.append(torch.where(row.norm(dim=1, keepdim=True) > _NOISE * size, row, 0).float())
    recipes = {name: dict(weights) for name, weights in mixes.items()}
    tensor = torch.cat([vectors.tensor, *(row[:, None] for row in rows)], dim=1)
    zeroed = [name for name, weights in mixes.items() if not any(weights.values())]
    return _changed(vectors, tensor, f"mixed {recipes}", [*vectors.names, *mixes], zeroed=zeroed)


def base(vectors: NamedVectors) -> Tensor:
    """``[L, d]``: what the emotions have in common, their mean (EV_base of arXiv 2502.04075
    by its name; the paper's own definition is not public).
    """
    return vectors.tensor.double().mean(dim=1).float()


def residual(vectors: V, share: float = 1.0) -> V:
    """Less ``share`` of the base: what tells the emotions apart."""
    rest = vectors.tensor.double() - share * vectors.tensor.double().mean(dim=1, keepdim=True)
    return _changed(vectors, _without_noise(vectors, rest), f"less {share:g} of the base")


def projected(vectors: V, directions: Tensor | NamedVectors) -> V:
    """The part within the span of ``directions``: ``[L, d]``, ``[L, k, d]`` or vectors."""
    return _projection(vectors, _within(vectors, directions), "projected on directions")


def without(vectors: V, directions: Tensor | NamedVectors) -> V:
    """The part orthogonal to all ``directions``: ``[L, d]``, ``[L, k, d]`` or vectors."""
    rest = vectors.tensor.double() - _within(vectors, directions)
    return _projection(vectors, rest, "directions projected out")


def orthogonalised(vectors: V, order: Sequence[str] | None = None) -> V:
    """Orthogonal to each other in every layer, with the norms that they had.

    Symmetric unless an order is given: the orthogonal set nearest to the unit vectors, which
    treats all alike (Löwdin 1950, J. Chem. Phys. 18:365). With ``order``, all names, the
    first keeps its direction and each next one loses what lies along those before it
    (Gram-Schmidt). EmokernelError for emotions that depend on each other linearly.
    """
    if order is not None and sorted(order) != sorted(vectors.names):
        raise EmokernelError(f"order needs every name once: {', '.join(vectors.names)}")
    places = [vectors.index(name) for name in order or vectors.names]
    result = torch.zeros_like(vectors.tensor, dtype=torch.float64)
    for layer in vectors.layers:
        rows = vectors.tensor[layer].double()
        norms = rows.norm(dim=1, keepdim=True)
        unit = rows[places] / norms[places].clamp_min(torch.finfo(torch.float64).tiny)
        left, singular, right = torch.linalg.svd(unit, full_matrices=False)
        if len(singular) < len(places) or singular[-1] <= _RANK_TOLERANCE * singular[0]:
            raise EmokernelError(
                f"layer {layer}: the emotions depend on each other linearly, or one is zero;"
                " orthogonalise fewer of them"
            )
        if order is None:
            result[layer, places] = left @ right
        else:
            basis, triangle = torch.linalg.qr(unit.T)
            result[layer, places] = (basis * triangle.diagonal().sign()).T
        result[layer] *= norms
    kind = "symmetrically" if order is None else f"in the order {', '.join(order)}"
    return _changed(vectors, result, f"orthogonalised {kind}")


def normalised(vectors: V, norm: float | Tensor = 1.0) -> V:
    """With this norm in every layer: a number, or one for each layer ``[L]``; zeros stay."""
    norms = vectors.tensor.double().norm(dim=-1, keepdim=True)
    target = torch.as_tensor(norm, dtype=torch.float64).reshape(-1, 1, 1)
    if len(target) not in (1, vectors.num_layers):
        raise EmokernelError(f"norm needs one number or {vectors.num_layers}, one for each layer")
    unit = torch.where(norms > 0, vectors.tensor.double() / norms.clamp_min(1e-300), 0.0)
    zeroed = () if target.any() else vectors.names
    return _changed(vectors, unit * target, "normalised", zeroed=zeroed)


def with_profile(vectors: V, profile: Sequence[float] | Tensor) -> V:
    """Each layer times its number of the layer profile ``[L]``; 0 leaves the layer alone."""
    column = torch.as_tensor(profile, dtype=torch.float64)
    if column.shape != (vectors.num_layers,):
        raise EmokernelError(
            f"a layer profile needs {vectors.num_layers} numbers, got {list(column.shape)}"
        )
    rounded = [round(number, 6) for number in column.tolist()]
    return _changed(vectors, vectors.tensor.double() * column[:, None, None], f"profile {rounded}")


def at_layers(vectors: V, layers: Iterable[int]) -> V:
    """Only these layers, the others zero. EmokernelError for a layer that does not exist."""
    layers = sorted(set(layers))
    unknown = [layer for layer in layers if not 0 <= layer < vectors.num_layers]
    if unknown:
        raise EmokernelError(f"no such layers: {unknown}; there are 0 to {vectors.num_layers - 1}")
    return with_profile(vectors, [float(layer in layers) for layer in range(vectors.num_layers)])


def cosine(vectors: NamedVectors) -> Tensor:
    """``[L, E, E]``: cosine between the emotions in each layer; 0 where one is zero."""
    unit = normalised(vectors).tensor.double()
    return (unit @ unit.transpose(1, 2)).float()


def _without_noise(vectors: NamedVectors, parts: Tensor) -> Tensor:
    """Parts of the vectors, those that are nothing but rounding set to zero.

    A relative dose would blow them up.
    """
    norms = vectors.tensor.double().norm(dim=-1, keepdim=True)
    return torch.where(parts.norm(dim=-1, keepdim=True) > _NOISE * norms, parts, 0.0)


def _within(vectors: NamedVectors, directions: Tensor | NamedVectors) -> Tensor:
    """The part ``[L, E, d]`` fp64 within the span of the directions of each layer."""
    given = directions.tensor if isinstance(directions, NamedVectors) else directions
    given = given[:, None] if given.dim() == 2 else given
    if given.dim() != 3 or given.shape[::2] != vectors.tensor.shape[::2]:
        raise EmokernelError(
            f"directions need the shape [{vectors.num_layers}, k, {vectors.hidden_size}],"
            f" got {list(given.shape)}"
        )
    _, singular, right = torch.linalg.svd(given.double(), full_matrices=False)
    largest = singular.amax(dim=1, keepdim=True)
    right = right * (singular > _RANK_TOLERANCE * largest)[..., None]
    return vectors.tensor.double() @ right.transpose(1, 2) @ right


def _projection(vectors: V, parts: Tensor, what: str) -> V:
    parts = _without_noise(vectors, parts)
    lost = [
        name for number, name in enumerate(vectors.names)
        if vectors[name].any() and not parts[:, number].any()
    ]  # fmt: skip
    if lost:
        names = ", ".join(map(repr, lost))
        warnings.warn(
            f"{what}, nothing is left of {names}: steering by it does nothing", stacklevel=3
        )
    return _changed(vectors, parts, what, zeroed=lost)


def _changed(
    vectors: V,
    tensor: Tensor,
    what: str,
    names: Iterable[str] | None = None,
    zeroed: Collection[str] = (),
) -> V:
    """New vectors of this tensor; EmokernelError for an emotion that is zero all at once.

    Those that were zero before, and ``zeroed``, may be.
    """
    names = vectors.names if names is None else tuple(names)
    absent = {name for name in vectors.names if not vectors[name].any()} | set(zeroed)
    lost = [
        repr(name)
        for number, name in enumerate(names)
        if name not in absent and not tensor[:, number].any()
    ]
    if lost:
        raise EmokernelError(
            f"{what}, the vectors of {', '.join(lost)} are zero in every layer, and steering by"
            " them would do nothing: select the emotions without, or change what is taken away"
        )
    provenance: dict[str, Any] = dict(vectors.provenance)
    provenance["history"] = [*provenance.get("history", ()), what]
    return replace(
        vectors,
        names=names,
        tensor=tensor,
        provenance=provenance,
        diagnostics={},
        calibration=None,
    )


def _calibration_of(vectors: NamedVectors, names: Mapping[str, str]) -> Calibration | None:
    """The calibration of the emotions ``{old: new}``; of all, or the circle is not theirs."""
    old = vectors.calibration
    if old is None:
        return None
    strengths = {
        key: {new: weights[name] for name, new in names.items() if name in weights}
        for key, weights in old.strengths.items()
    }
    if len(names) == len(vectors.names) and all(a == b for a, b in names.items()):
        return replace(old, strengths=strengths)
    # The emotions beside a point of the circle may be others now.
    return replace(old, strengths=strengths, circle={}, mapping="wheel")
