"""Random row problems for the tests of the operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from emokernel import reference
from emokernel.choices import DOSE, LAW, law_bits
from emokernel.ops import Backend
from emokernel.reference import Cast, Law

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
HALVES = DTYPES[1:]
WIDTHS = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 61, 64, 123, 127, 192, 1000, 1024, 4096, 4099)
EPS = 1e-6
LAYER = "layer"  # beside the casts of an RMSNorm, the other norm
NORMS = (*Cast, LAYER)
LAWS = tuple(law_bits(law, dose) for dose in DOSE for law in LAW)


@dataclass(frozen=True)
class Case:
    """The arguments of every operation, x and residual ``[rows, d]``."""

    x: Tensor
    residual: Tensor
    weight: Tensor
    bias: Tensor
    basis: Tensor
    token_slot: Tensor
    ids: Tensor
    weights: Tensor
    law: Tensor

    @property
    def tables(self) -> tuple[Tensor, ...]:
        return self.basis, self.token_slot, self.ids, self.weights, self.law

    def norm_arguments(self, cast: int) -> tuple:
        return (self.x, self.residual, self.weight, EPS, int(cast), *self.tables)

    def layer_norm_arguments(self) -> tuple:
        return (self.x, self.residual, self.weight, self.bias, EPS, *self.tables)

    def to(self, device: torch.device) -> Case:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def rows(self, index: Tensor | slice) -> Case:
        """The same problem for some of its rows."""
        return replace(
            self,
            x=self.x[index],
            residual=self.residual[index],
            token_slot=self.token_slot[index],
        )

    def untouched(self) -> Case:
        return replace(self, token_slot=torch.full_like(self.token_slot, -1))


def make(
    rows: int,
    d: int,
    dtype: torch.dtype = torch.float32,
    *,
    basis_dtype: torch.dtype | None = None,
    components: int = 3,
    law: int | None = None,
    slots: int = 11,
    vectors: int = 7,
    seed: int = 0,
) -> Case:
    """Random rows; slots, ids and weights include every way of being absent.

    Slot 0 has no present component; the rows go through all slots, with -1 and one that does not
    exist between them. ``law`` fixes the law of every slot, else all `LAWS` occur.
    """
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vectors, (slots, components), generator=g, dtype=torch.int32)
    weights = torch.randn(slots, components, generator=g)
    weights[0] = 0.0
    if components > 1:
        weights[1, 0] = 0.0
        ids[2, -1], ids[3, 0] = -1, vectors
    each = sorted(LAWS) if law is None else [law]
    laws = torch.tensor([each[slot % len(each)] for slot in range(slots)], dtype=torch.int32)
    weights[(laws & Law.RELATIVE) != 0] /= d**0.5  # relative doses multiply by the norm of the row
    return Case(
        x=torch.randn(rows, d, generator=g).to(dtype),
        residual=torch.randn(rows, d, generator=g).to(dtype),
        weight=torch.rand(d, generator=g).add(0.5).to(dtype),
        bias=torch.randn(d, generator=torch.Generator().manual_seed(seed + 1)).to(dtype),
        basis=torch.randn(vectors, d, generator=g).to(basis_dtype or dtype),
        token_slot=(torch.arange(rows, dtype=torch.int32) % (slots + 2)) - 1,
        ids=ids,
        weights=weights,
        law=laws,
    )


def fused(backend: Backend, case: Case, norm: Cast | str) -> tuple[Tensor, Tensor]:
    """(normed, y) of the operation with that norm."""
    if norm == LAYER:
        return backend.add_steer_layer_norm(*case.layer_norm_arguments())
    return backend.add_steer_rms_norm(*case.norm_arguments(norm))


def fused_into(ops: object, case: Case, norm: Cast | str) -> tuple[Tensor, Tensor]:
    """As `fused`, by the form of the torch operations that is given its outputs."""
    normed, y = torch.empty_like(case.x), torch.zeros_like(case.x)
    if norm == LAYER:
        ops.add_steer_layer_norm_out(*case.layer_norm_arguments(), normed=normed, y=y)
    else:
        ops.add_steer_rms_norm_out(*case.norm_arguments(norm), normed=normed, y=y)
    return normed, y


def changed_in_place(
    operation: Callable, case: Case, cast: int, normed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(normed, y) that `steer_rms_norm_` leaves of h = x + residual and of the ``normed`` given.

    Where none is given, the x of the case stands for what another norm made of the rows.
    """
    y, normed = case.x + case.residual, (case.x if normed is None else normed).clone()
    assert operation(y, normed, case.weight, EPS, int(cast), *case.tables) is None
    return normed, y


def changed_rows(case: Case) -> Tensor:
    """Which rows of h = x + residual the law changes, bool ``[rows]``."""
    v, touched = reference.mix(*case.tables[:-1])
    laws = case.law[case.token_slot.clamp(0, len(case.law) - 1).long()]
    return touched & reference.row_law(case.x + case.residual, v, laws)[1]


def exactly(a: Tensor, b: Tensor) -> bool:
    """Equality of every bit, those of a NaN too."""
    integer = torch.int32 if a.dtype == torch.float32 else torch.int16
    return torch.equal(a.contiguous().view(integer), b.contiguous().view(integer))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equality bit by bit, except that any NaN equals any other (torch has no rule for them)."""
    integer = torch.int32 if a.dtype == torch.float32 else torch.int16
    bits = a.contiguous().view(integer) == b.contiguous().view(integer)
    return a.shape == b.shape and bool((bits | (a.isnan() & b.isnan())).all())


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
