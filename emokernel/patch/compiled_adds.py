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
from emokernel.patch.norms import FusedNorm, are_trained, norm_arguments
from emokernel.state import DeviceState
from emokernel.state.device import Running, views_of_layer

# The last arguments of the operations: basis, token_slot, ids, weights, law.
RowTables = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TracedAdd:
    """What a steered add reads.

    ``namespace`` of ``torch.ops`` has the operations; None: the law is traced as torch's own.
    ``norm``: the norm that it computes too, ``norm_serial`` whose result that is.
    """

    state: DeviceState
    layer: int
    namespace: str | None
    norm: FusedNorm | None
    norm_serial: str


def _operation(it: TracedAdd, name: str) -> Callable:
    return getattr(getattr(torch.ops, it.namespace or ""), name).default


def tables_in_trace(it: TracedAdd, slots: Tensor) -> RowTables:
    """The last arguments of the operations."""
    state = it.state
    tables = views_of_layer(state.basis, state.records, state.record_floats, it.layer)
    return tables[0], slots, *tables[1:]


def steer_in_trace(it: TracedAdd, h: Tensor, tables: RowTables) -> Tensor:
    """The law alone."""
    if it.namespace is None:
        return reference.steer(h, *tables)
    return _operation(it, "steer")(h.contiguous(), *tables)


def add_in_trace(
    it: TracedAdd,
    a: Tensor,
    b: Tensor,
    tables: RowTables,
    attributes: Mapping[str, Any],
    running: Running,
) -> Tensor:
    """a + b, the law, and the norm, if there is one, which is left for its module.

    ``attributes`` are those of that module, which torch.compile checks: they may be replaced.
    """
    if it.namespace is None:
        return reference.add_steer(a, b, *tables)
    a, b, norm = a.contiguous(), b.contiguous(), it.norm
    if norm is not None and not torch.is_autocast_enabled(a.device.type):
        arguments = norm_arguments(norm, attributes, a)
        if arguments is not None and not are_trained(attributes["_parameters"]):
            normed, y = _operation(it, norm.operation)(a, b, *arguments, *tables)
            running.handed = y, normed, it.norm_serial, None
            return y
    return _operation(it, "add_steer")(a, b, *tables)
