"""Properties of the row law itself, on the specification."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from row_cases import DTYPES, HALVES, LAWS, make, same_bits
from torch import Tensor

from emokernel import reference
from emokernel.numerics import ulp_distance
from emokernel.reference import MAX_COMPONENTS, SUM_RANGE, Cast, Law

fast = settings(max_examples=60, deadline=None)
widths = st.integers(1, 70)
seeds = st.integers(0, 2**20)
dtypes = st.sampled_from(DTYPES)
laws = st.sampled_from(LAWS)
# From subnormal numbers over ordinary ones to where sums of squares overflow.
scales = st.sampled_from([1e-44, 1e-40, 1e-30, 1e-18, 1e-6, 1.0, 1e3, 1e15, 1e18, 1e25, 1e30])


def random_rows(seed: int, rows: int, d: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, d, generator=generator) * scale


def one_vector(h: Tensor, vector: Tensor, weight: float, law: int) -> Tensor:
    """Every row of h steered by one vector alone."""
    return reference.steer(
        h,
        vector[None].contiguous(),
        torch.zeros(len(h), dtype=torch.int32),
        torch.zeros(1, 1, dtype=torch.int32),
        torch.full((1, 1), weight),
        torch.full((1,), law, dtype=torch.int32),
    )


def in_range(rows: Tensor) -> Tensor:
    total = rows.float().square().sum(-1)
    return (total >= SUM_RANGE[0]) & (total <= SUM_RANGE[1])


@fast
@given(seeds, widths, dtypes, st.sampled_from([1, 3]), st.floats(-4, 4))
def test_preserve_keeps_the_norm(
    seed: int, d: int, dtype: torch.dtype, law: int, weight: float
) -> None:
    h = random_rows(seed, 5, d).to(dtype)
    y = one_vector(h, random_rows(seed + 1, 1, d)[0], weight, law)
    before, after = h.double().norm(dim=-1), y.double().norm(dim=-1)
    # Each element is rounded once, relative to itself: so is the norm, at worst.
    limit = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps / 2 * 1.01
    tiny = torch.finfo(dtype).smallest_normal * d**0.5
    assert bool(((after - before).abs() <= limit * before + tiny).all())


@fast
@given(seeds, widths, dtypes, laws, scales)
def test_zero_weights_change_no_bit(
    seed: int, d: int, dtype: torch.dtype, law: int, scale: float
) -> None:
    h = random_rows(seed, 5, d, scale).to(dtype)
    h.view(-1)[::3] *= -0.0
    vector = random_rows(seed + 1, 1, d)[0]
    assert same_bits(one_vector(h, vector, 0.0, law), h)
    assert same_bits(one_vector(h, vector, -0.0, law), h)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", [law for law in LAWS if law])
def test_a_zero_row_stays(dtype: torch.dtype, law: int) -> None:
    h = torch.tensor([[0.0, -0.0, 0.0], [-0.0, -0.0, -0.0]], dtype=dtype)
    assert same_bits(one_vector(h, torch.ones(3), 2.0, law), h)


def test_a_zero_row_takes_an_added_vector() -> None:
    y = one_vector(torch.zeros(1, 3), torch.tensor([1.0, -2.0, 3.0]), 0.5, Law.ADD)
    assert y.tolist() == [[0.5, -1.0, 1.5]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_that_would_vanish_stays_under_preserve(dtype: torch.dtype) -> None:
    h = torch.tensor([[1.0, -2.0, 3.0]], dtype=dtype)
    assert same_bits(one_vector(h, h[0].float(), -1.0, Law.PRESERVE), h)
    assert one_vector(h, h[0].float(), -1.0, Law.ADD).tolist() == [[0.0, 0.0, 0.0]]


@fast
@given(seeds, widths, dtypes, laws, scales, scales)
def test_finite_input_never_gives_nan(
    seed: int, d: int, dtype: torch.dtype, law: int, row_scale: float, vector_scale: float
) -> None:
    """And where a norm is needed that fp32 cannot hold, the row is untouched."""
    h = random_rows(seed, 4, d, row_scale).to(dtype)
    h = torch.where(h.isfinite(), h, torch.ones_like(h))
    vector = random_rows(seed + 1, 1, d, vector_scale)[0].clamp(-3e38, 3e38)
    y = one_vector(h, vector, 1.0, law)
    assert not y.isnan().any()
    if law:
        free = ~in_range(h)
        assert same_bits(y[free], h[free])


@fast
@given(seeds, widths, dtypes, laws, st.sampled_from(["nan", "inf", "-inf"]))
def test_a_row_that_is_not_finite_stays_alone(
    seed: int, d: int, dtype: torch.dtype, law: int, value: str
) -> None:
    h, vector = random_rows(seed, 6, d).to(dtype), random_rows(seed + 1, 1, d)[0]
    expected = one_vector(h, vector, 0.7, law)
    h[3, seed % d] = float(value)
    y = one_vector(h, vector, 0.7, law)
    others = torch.arange(6) != 3
    assert same_bits(y[others], expected[others])
    if law:
        assert same_bits(y[3], h[3])


@fast
@given(seeds, widths, st.floats(0.01, 3.0))
def test_relative_dose_counts_in_norms_of_the_row(seed: int, d: int, weight: float) -> None:
    """With 1/|e| folded into the weight, the shift is weight * |h| long, at any scale of h."""
    h, vector = random_rows(seed, 5, d, 30.0), random_rows(seed + 1, 1, d)[0]
    y = one_vector(h, vector, weight / float(vector.norm()), Law.RELATIVE)
    shift = (y.double() - h.double()).norm(dim=-1)
    torch.testing.assert_close(shift, weight * h.double().norm(dim=-1), rtol=2e-4, atol=1e-6)


@fast
@given(seeds, widths, st.integers(1, 8), dtypes)
def test_mixes_are_weighted_sums(seed: int, d: int, components: int, dtype: torch.dtype) -> None:
    case = make(26, d, dtype, components=components, seed=seed)
    v, touched = reference.mix(*case.tables[:4])
    for row, slot in enumerate(case.token_slot.tolist()):
        expected, present = torch.zeros(d), False
        if 0 <= slot < len(case.law):
            for number, weight in zip(case.ids[slot].tolist(), case.weights[slot], strict=True):
                if weight != 0 and 0 <= number < len(case.basis):
                    expected = expected + weight * case.basis[number].float()
                    present = True
        assert torch.equal(v[row], expected)
        assert bool(touched[row]) == present


@fast
@given(seeds, widths, dtypes)
def test_absent_ids_are_no_components(seed: int, d: int, dtype: torch.dtype) -> None:
    case = make(13, d, dtype, seed=seed)
    for absent in (-1, len(case.basis), 2**31 - 1, -(2**31)):
        case.ids[:, 1] = absent
        without = case.weights.clone()
        without[:, 1] = 0.0
        y = reference.steer(case.x, *case.tables)
        assert same_bits(y, reference.steer(case.x, *case.tables[:3], without, case.law))


@fast
@given(seeds, widths, dtypes, st.sampled_from(list(Cast)))
def test_rows_do_not_meet(seed: int, d: int, dtype: torch.dtype, cast: Cast) -> None:
    """A permutation of the rows permutes the results."""
    case = make(13, d, dtype, seed=seed)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(seed))
    normed, y = reference.add_steer_rms_norm(*case.norm_arguments(cast))
    again = reference.add_steer_rms_norm(*case.rows(order).norm_arguments(cast))
    limit = 2 if dtype in HALVES else 64  # torch's own sums depend on the shape
    assert int(ulp_distance(again[1], y[order]).max()) <= limit
    assert torch.allclose(again[0].float(), normed[order].float(), rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_direct_sums_survive_cancellation(dtype: torch.dtype) -> None:
    """|t| = 1e-3 |h|: the norm is still kept, because |t|^2 is summed over t itself."""
    h = random_rows(0, 8, 512).to(dtype)
    exact = h.double()
    for row in range(8):
        vector = (-0.999 * exact[row]).float()
        y = one_vector(h[row : row + 1], vector, 1.0, Law.PRESERVE)
        ratio = float(y.double().norm() / exact[row].norm())
        assert abs(ratio - 1) < (1e-6 if dtype == torch.float32 else 2e-3)


def test_plain_addition_may_overflow_to_infinity() -> None:
    y = one_vector(torch.full((1, 2), 3e38), torch.full((2,), 3e38), 1.0, Law.ADD)
    assert y.tolist() == [[float("inf"), float("inf")]]


def test_casts_differ_where_they_should() -> None:
    u = random_rows(3, 64, 256).to(torch.bfloat16).float()
    weight = (random_rows(4, 1, 256)[0].abs() + 0.5).to(torch.bfloat16)
    llama, gemma, olmo = (reference.rms_norm(u, weight, 1e-6, cast) for cast in list(Cast)[:3])
    assert 0.1 < float((llama != olmo).float().mean()) < 0.5
    torch.testing.assert_close(gemma.float(), reference.rms_norm(
        u, (1 + weight.float()), 1e-6, Cast.OLMO), rtol=1e-2, atol=1e-2)  # fmt: skip


def test_the_kernels_count_as_the_specification_does() -> None:
    """Laws and casts by the same numbers, and the same limits, in C++."""
    text = (Path(__file__).parents[1] / "csrc" / "kernels" / "law.h").read_text()
    for kind in (Law, Cast):
        (body,) = re.findall(rf"enum (?:class )?{kind.__name__} : \w+ {{(.*?)}}", text)
        found = {name.upper(): int(number) for name, number in re.findall(r"k(\w+) = (\d+)", body)}
        members = {name: int(member) for name, member in kind.__members__.items()}
        assert found == {name: number for name, number in members.items() if name != "ADD"}
    assert f"kCasts = {len(Cast)};" in text
    assert f"kMaxComponents = {MAX_COMPONENTS};" in text
    limits = re.findall(r"constexpr float k\w+ = (\S+)f;", text)
    assert tuple(map(float.fromhex, limits)) == SUM_RANGE
