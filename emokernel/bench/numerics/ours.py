"""emokernel's own rows of the comparison: the operations that patched models call, no copy."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from emokernel.bench.numerics.formula import ADD, PRESERVE, RELATIVE, Formula, Given
from emokernel.ops import available, select
from emokernel.ops.backends import Backend
from emokernel.reference import Law

_BITS = {ADD: Law.ADD, PRESERVE: Law.PRESERVE, RELATIVE: Law.RELATIVE}


def ours(device: torch.device | str = "cpu") -> list[Formula]:
    """A formula for each law of each backend that is live on ``device``, the chosen one first."""
    chosen = select(device).name
    live = [name for name, refusal in available(device).items() if refusal is None]
    live.sort(key=lambda name: name != chosen)
    return [
        Formula(
            f"emokernel {name}", law, f"emokernel, {name}.add_steer, law {law}",
            partial(_add_steer, select(device, name), bits, torch.device(device)), masks=True,
        )
        for name in live
        for law, bits in _BITS.items()
    ]  # fmt: skip


def _add_steer(backend: Backend, bits: Law, device: torch.device, given: Given) -> Tensor:
    """The backend's `add_steer` of the rows, with the tables that a patched model would hold.

    The basis is in the stream's dtype; a relative dose has 1/|e| of the stored row in its weight.
    """
    basis = given.vector.to(given.dtype)[None]
    weight = given.weight
    if bits & Law.RELATIVE:
        weight /= float(basis.float().norm())
    on = torch.ones(len(given.x), dtype=torch.bool) if given.on is None else given.on
    tables = (
        basis, on.int() - 1, torch.zeros(1, 1, dtype=torch.int32), torch.tensor([[weight]]),
        torch.tensor([int(bits)], dtype=torch.int32),
    )  # fmt: skip
    rows = given.x.contiguous(), given.residual.contiguous()
    with torch.no_grad():
        return backend.add_steer(*(t.to(device) for t in (*rows, *tables))).cpu()
