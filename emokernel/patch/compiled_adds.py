"""A steered add while torch.compile traces it.

Before every call torch.compile checks each object that it read while tracing. A steered add reads
dozens, in every layer. So it asks for one constant that holds them all, by a function that
torch.compile runs once and does not look into, and one string is checked in the place of them:
`DeviceState.serial`, which changes whenever the tensors of the state do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emokernel import reference
from emokernel.patch.norms import FusedNorm, are_trained
from emokernel.state import DeviceState
from emokernel.state.device import Running, Tables, views_of_layer


@dataclass(frozen=True)
class TracedNorm:
    """A norm that a steered add computes.

    ``weight`` and ``bias`` are None where the module has them: those may be replaced, and have to
    be read from there, as the eps where it has a name.
    """

    serial: str
    operation: str
    weight: Tensor | None
    bias: Tensor | None
    plus_one: bool
    eps: float
    eps_name: str | None  # where it is read again
    cast: int | None


@dataclass(frozen=True)
class TracedAdd:
    """What a steered add reads.

    ``namespace`` of ``torch.ops`` has the operations; None: the law is traced as torch's own.
    """

    state: DeviceState
    layer: int
    namespace: str | None
    norm: TracedNorm | None


def traced_norm(norm: FusedNorm, serial: str, like: Tensor) -> TracedNorm | None:
    """The constant of a norm for rows like ``like``; None where an add cannot compute it now."""
    made = norm.made_for(like)
    if made is None:
        return None
    cast = None if norm.cast is None else int(norm.cast)
    weight, bias = made.get("weight"), made.get("bias")
    plus_one, eps = norm.plus_one, norm.eps
    eps_name = norm.eps_names[0] if norm.eps_names else None
    return TracedNorm(serial, norm.operation, weight, bias, plus_one, eps, eps_name, cast)


def _operation(namespace: str, name: str) -> Callable:
    return getattr(getattr(torch.ops, namespace), name).default


def tables_in_trace(it: TracedAdd, slots: Tensor) -> tuple[Tensor, ...]:
    """The last arguments of the operations: basis, token_slot, ids, weights, law."""
    state = it.state
    tables: Tables = views_of_layer(state.basis, state.records, state.record_floats, it.layer)
    return tables[0], slots, *tables[1:]


def steer_in_trace(it: TracedAdd, h: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
    """The law alone."""
    if it.namespace is None:
        return reference.steer(h, *tables)
    return _operation(it.namespace, "steer")(h.contiguous(), *tables)


def add_in_trace(
    it: TracedAdd,
    a: Tensor,
    b: Tensor,
    tables: tuple[Tensor, ...],
    attributes: Mapping[str, Any],
    running: Running,
) -> Tensor:
    """a + b, the law, and the norm, if there is one, which is left for its module.

    ``attributes`` are those of that module.
    """
    if it.namespace is None:
        return reference.add_steer(a, b, *tables)
    a, b, norm = a.contiguous(), b.contiguous(), it.norm
    held = {} if norm is None else attributes["_parameters"]
    if norm is None or torch.is_autocast_enabled(a.device.type) or are_trained(held):
        return _operation(it.namespace, "add_steer")(a, b, *tables)
    weight = held["weight"] if norm.weight is None else norm.weight
    if norm.plus_one:
        weight = weight + 1
    eps = norm.eps if norm.eps_name is None else attributes.get(norm.eps_name, norm.eps)
    operation = _operation(it.namespace, norm.operation)
    if norm.cast is not None:
        normed, y = operation(a, b, weight, eps, norm.cast, *tables)
    else:
        bias = held["bias"] if norm.bias is None else norm.bias
        normed, y = operation(a, b, weight, bias, eps, *tables)
    running.handed = y, normed, norm.serial, None
    return y
