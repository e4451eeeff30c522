"""The norm of an instance, steered: which rows have whose bits, and which norms are known."""

from __future__ import annotations

import pytest
import torch
from engines.vllm.stand_ins import WIDTH, Norm
from torch import nn

from emokernel import reference
from emokernel.engines.vllm.norms import cast_of, steer_norm
from emokernel.errors import ModelStructureError
from emokernel.numerics import ulp_distance
from emokernel.ops import select
from emokernel.reference import Cast, Law
from emokernel.state import DeviceState, Mix, RowBuffer

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
SLOTS = [-1, 0, -1, 1, 0, -1]
MIXES = [Mix(((0, 1.0), (1, -0.5)), Law.PRESERVE), Mix(((1, 0.5),), Law.ADD)]


class OtherRounding(Norm):
    """Sums in fp64, as the order of another reduction would differ in the last place."""

    def normed(self, rows):
        wide = rows.double()
        wide = wide * (wide.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return wide.to(self.weight.dtype) * self.weight


class InPlace(Norm):
    """As vLLM's kernels: what it is given is where its results are."""

    def forward(self, x, residual=None):
        if residual is None:
            return super().forward(x)
        normed, y = super().forward(x, residual)
        return x.copy_(normed), residual.copy_(y)


def tables(dtype, width=WIDTH):
    """(What steers the rows of one layer, the slots of the rows)."""
    vectors = torch.randn(1, 2, width, generator=torch.Generator().manual_seed(1))
    state = DeviceState(vectors, len(MIXES), CPU, dtype)
    state.write_all(range(len(MIXES)), b"".join(mix.head for mix in MIXES))
    rows = RowBuffer(8, CPU)
    rows.write(torch.tensor(SLOTS, dtype=torch.int32).numpy())
    return state.tables[0], rows.tensor


def some_rows(dtype, width=WIDTH):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, len(SLOTS), width, generator=generator).to(dtype)


def steered(norm, exact, backend=None):
    found = tables(norm.weight.dtype, len(norm.weight))
    steer_norm(norm, exact, select(CPU, backend), *found)
    return found


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Norm, OtherRounding, InPlace])
def test_exact_leaves_the_others_their_bits_and_steers_what_the_norm_gave(kind, dtype, backend):
    width = 512  # where reductions differ
    norm, plain = (kind(width=width, dtype=dtype) for _ in range(2))
    (basis, ids, weights, law), slots = steered(norm, True, backend)
    x, residual = some_rows(dtype, width)
    was_normed, was_y = plain(x.clone(), residual.clone())
    normed, y = norm(x.clone(), residual.clone())
    free = torch.tensor(SLOTS) < 0
    assert torch.equal(normed[free], was_normed[free])
    assert torch.equal(y[free], was_y[free])
    assert not (y[~free] == was_y[~free]).all(-1).any()
    wanted_y, wanted_normed = was_y.clone(), was_normed.clone()
    reference.steer_rms_norm_(
        wanted_y, wanted_normed, plain.weight, plain.variance_epsilon, norm.steer_cast,
        basis, slots[: len(SLOTS)], ids, weights, law,
    )  # fmt: skip
    assert ulp_distance(y, wanted_y).max() <= 2
    torch.testing.assert_close(normed, wanted_normed)
    if kind is OtherRounding:
        ours = reference.rms_norm(was_y.float(), plain.weight, 1e-6, Cast.LLAMA)
        assert not torch.equal(ours[free], was_normed[free])  # else it would show nothing


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cast", list(Cast))
def test_fused_is_the_one_operation(cast, dtype, backend):
    norm = Norm(cast, dtype=dtype)
    (basis, ids, weights, law), slots = steered(norm, False, backend)
    x, residual = some_rows(dtype)
    normed, y = norm(x, residual)
    wanted = reference.add_steer_rms_norm(
        x, residual, norm.weight, 1e-6, norm.steer_cast, basis, slots[: len(SLOTS)], ids, weights,
        law,
    )  # fmt: skip
    torch.testing.assert_close((normed, y), wanted)
    free = torch.tensor(SLOTS) < 0
    assert torch.equal(y[free], (x + residual)[free])


@pytest.mark.parametrize("exact", [True, False])
def test_a_steered_norm_is_still_its_own(exact):
    norm = Norm()
    weight, names = norm.weight, list(norm.state_dict())
    steered(norm, exact)
    assert isinstance(norm, Norm)
    assert type(norm).__name__ == "SteeredNorm"
    assert type(Norm()) is Norm
    assert norm.weight is weight
    assert list(norm.state_dict()) == names


def test_rows_are_those_that_stand_there_when_it_runs():
    norm, plain = Norm(), Norm()
    _, slots = steered(norm, True)
    slots.fill_(-1)
    x, residual = some_rows(torch.float32)
    for got, wanted in zip(norm(x, residual), plain(x, residual), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("kind", [Norm, InPlace])
@pytest.mark.parametrize("cast", list(Cast))
def test_each_cast_is_found_in_bf16(cast, kind):
    assert cast_of(kind(cast, 256, torch.bfloat16)) is cast


@pytest.mark.parametrize("cast", list(Cast))
def test_in_fp32_what_is_found_computes_the_same(cast):
    """Nothing is rounded before the weight, so that three of them are one."""
    norm = Norm(cast, 256)
    found = cast_of(norm)
    assert (found is Cast.GEMMA) is (cast is Cast.GEMMA)
    rows = some_rows(torch.float32, 256)[0]
    assert torch.equal(norm(rows), reference.rms_norm(rows, norm.weight, 1e-6, found))


def test_the_nearest_of_those_that_fit_is_found():
    """The last bits of another reduction fit none exactly."""
    assert cast_of(OtherRounding(Cast.LLAMA, 256, torch.bfloat16)) is Cast.LLAMA
    assert cast_of(OtherRounding(Cast.VLLM, 256, torch.bfloat16)) is Cast.VLLM


class Centred(Norm):
    """What LayerNorm does."""

    def normed(self, rows):
        return super().normed(rows - rows.mean(-1, keepdim=True))


class WideSum(Norm):
    """Keeps the stream in fp32."""

    def forward(self, x, residual=None):
        normed, y = super().forward(x, residual)
        return normed, y.float()


class WideNorm(Norm):
    """Gives its rows in fp32."""

    def forward(self, x, residual=None):
        normed, y = super().forward(x, residual)
        return normed.float(), y


class Scaled(Norm):
    def forward(self, x, residual=None):
        normed, y = super().forward(x, residual)
        return normed, 2 * y


class OtherEpsilon(Norm):
    def normed(self, rows):
        return reference.rms_norm(rows, self.weight, 1e-2, self.cast)


@pytest.mark.parametrize("kind", [Centred, WideSum, WideNorm, Scaled, OtherEpsilon])
def test_a_norm_that_computes_something_else_is_refused(kind):
    norm = kind(dtype=torch.bfloat16)
    with pytest.raises(ModelStructureError, match=f"{kind.__name__} computes no RMSNorm"):
        steer_norm(norm, True, select(CPU), *tables(torch.bfloat16))
    assert type(norm) is kind


def without(name):
    norm = Norm()
    delattr(norm, name)
    return norm


def square():
    norm = Norm()
    norm.weight = nn.Parameter(torch.ones(2, 2))
    return norm


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(WIDTH), nn.Identity(), without("weight"), without("variance_epsilon"), square()],
)
def test_what_is_no_rms_norm_with_a_weight_is_refused(norm):
    with pytest.raises(ModelStructureError, match="is no RMSNorm with a weight"):
        cast_of(norm)
