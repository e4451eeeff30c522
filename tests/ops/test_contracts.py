"""Contracts 1 to 3 of the operations: untouched rows, batch invariance, one rounding."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from row_cases import DTYPES, HALVES, LAWS, LAYER, NORMS, fused, same_bits, threads
from targets import Target

from emokernel import reference
from emokernel.numerics import ulp_distance
from emokernel.reference import Cast, Law

SPECIALS = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, -1e-42, 6e-8, 3e38)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_untouched_rows_keep_their_bits(
    target: Target, dtype: torch.dtype, norm: Cast | str
) -> None:
    """y = x + residual and the norm of an unset call, whatever the rows and their neighbours."""
    for d in target.widths[1:] if target.slow else target.widths:
        case = target.make(13 if target.slow else 39, d, dtype)
        special = torch.tensor(SPECIALS).to(dtype)
        case.x.view(-1)[::3] = special[torch.arange(len(case.x.view(-1)[::3])) % len(special)]
        case.residual.view(-1)[::4] = special[
            torch.arange(len(case.residual.view(-1)[::4])) % len(special)
        ]
        case.x[6:12], case.residual[6:12] = -0.0, -0.0
        normed, y = fused(target.backend, case, norm)
        unset_normed, unset_y = fused(target.backend, case.untouched(), norm)
        h = case.x + case.residual
        assert same_bits(unset_y, h), d
        added = target.backend.add_steer(case.x, case.residual, *case.untouched().tables)
        assert same_bits(added, h)
        # slots -1, 0 (zero weights) and one beyond the table
        free = (case.token_slot <= 0) | (case.token_slot >= len(case.law))
        assert int(free.sum()) >= 3
        assert same_bits(y[free], h[free]), d
        assert same_bits(normed[free], unset_normed[free]), d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [Cast.LLAMA, Cast.GEMMA, Cast.OLMO, LAYER])
def test_the_norm_of_a_row_does_not_know_how_the_row_came_about(
    target: Target, dtype: torch.dtype, norm: Cast | str
) -> None:
    """A steered y gets the norm that it gets as a row of its own that nothing steers."""
    for d in target.widths[1:] if target.slow else target.widths:
        case = target.make(5 if target.slow else 26, d, dtype)
        normed, y = fused(target.backend, case, norm)
        alone = replace(case.untouched(), x=y, residual=torch.full_like(y, -0.0))
        again, same_y = fused(target.backend, alone, norm)
        assert same_bits(same_y, y), d
        assert same_bits(again, normed), d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [5, 64, 1000])
def test_rows_without_a_law_are_untouched(target: Target, dtype: torch.dtype, d: int) -> None:
    """h = 0, t = 0, sums out of range and rows that are not finite, under laws that need norms."""
    case = target.make(7, d, dtype, components=1, law=Law.PRESERVE)
    case.weights.fill_(1.0)
    case.token_slot.fill_(1)
    case.basis.fill_(1.0)
    rows = case.x
    rows[0] = 0.0
    rows[1] = -1.0  # t = 0
    rows[2, d // 2] = float("nan")
    rows[3, 0] = float("inf")
    rows[4] = 3e38 if dtype != torch.float16 else float("-inf")
    rows[5] = -0.0
    y = target.backend.steer(rows, *case.tables)
    assert same_bits(y[:6], rows[:6])
    assert not torch.equal(y[6], rows[6])
    relative = replace(case, law=torch.full_like(case.law, int(Law.RELATIVE)))
    y = target.backend.steer(rows, *relative.tables)
    untouched = torch.tensor([0, 2, 3, 4, 5])
    assert same_bits(y[untouched], rows[untouched])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [7, 61, 64, 515, 1024, 4099])
def test_a_row_is_the_same_alone_and_in_any_batch(
    target: Target, dtype: torch.dtype, d: int
) -> None:
    if target.slow and d not in (61, 64):
        pytest.skip("the interpreter takes minutes for all of them")
    many = target.many_rows if d < 600 else min(target.many_rows, 257)
    counts = [count for count in (1, 2, 3, 12, 65, 255, 256, 257) if count < many]
    case = target.make(many, d, dtype)
    normed, y = target.backend.add_steer_rms_norm(*case.norm_arguments(Cast.LLAMA))

    def check(index: torch.Tensor, part: tuple[torch.Tensor, torch.Tensor]) -> None:
        assert same_bits(part[0], normed[index])
        assert same_bits(part[1], y[index])

    for count in counts:
        for start in (0, many - count):
            index = torch.arange(start, start + count)
            check(index, target.backend.add_steer_rms_norm(*case.rows(index).norm_arguments(0)))
    shuffled = torch.randperm(many)
    check(shuffled, target.backend.add_steer_rms_norm(*case.rows(shuffled).norm_arguments(0)))
    for count in () if target.slow else (1, 2):
        with threads(count):
            check(torch.arange(many), target.backend.add_steer_rms_norm(*case.norm_arguments(0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_alignment_does_not_matter(target: Target, dtype: torch.dtype) -> None:
    norms = (Cast.LLAMA,) if target.slow else (Cast.LLAMA, Cast.VLLM, LAYER)
    for d, norm in product((33, 64) if target.slow else (33, 64, 1000, 4096, 20008), norms):
        case = target.make(5, d, dtype)
        expected = fused(target.backend, case, norm)

        def moved(rows: torch.Tensor, offset: int) -> torch.Tensor:
            storage = torch.zeros(rows.numel() + 64, dtype=rows.dtype)
            view = storage[offset : offset + rows.numel()].view(rows.shape)
            return view.copy_(rows)

        for offset in (1, 8) if target.slow else (1, 2, 3, 8, 15, 31):
            shifted = replace(
                case,
                x=moved(case.x, offset),
                residual=moved(case.residual, 2 * offset),
                basis=moved(case.basis, offset + 1),
                weight=moved(case.weight, offset + 2),
                bias=moved(case.bias, offset + 3),
            )
            got = fused(target.backend, shifted, norm)
            assert same_bits(got[0], expected[0])
            assert same_bits(got[1], expected[1])


@pytest.mark.parametrize("field", ["x", "residual", "weight", "bias", "basis"])
def test_one_operand_may_lie_anywhere(target: Target, field: str) -> None:
    """A kernel that moves 16 bytes at a time has to look at each of them."""
    for d, dtype in ((64, torch.float32), (1000, torch.bfloat16)):
        case = target.make(4 if target.slow else 13, d, dtype)
        aligned = getattr(case, field)
        storage = torch.zeros(aligned.numel() + 1, dtype=dtype)
        moved = storage[1:].view(aligned.shape).copy_(aligned)
        got = fused(target.backend, replace(case, **{field: moved}), LAYER)
        expected = fused(target.backend, case, LAYER)
        assert same_bits(got[0], expected[0])
        assert same_bits(got[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_begin_aligned_may_end_anywhere(target: Target, dtype: torch.dtype) -> None:
    """Rows of 61 in memory of 64: what lies behind each is not theirs."""
    case = target.make(13, 61, dtype)
    expected = target.backend.steer(case.x, *case.tables)
    padded = torch.full((13, 64), 7.0, dtype=dtype)
    basis = torch.full((len(case.basis), 64), 5.0, dtype=dtype)
    padded[:, :61], basis[:, :61] = case.x, case.basis
    y = target.backend.steer(padded[:, :61], basis[:, :61], *case.tables[1:])
    assert same_bits(y, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_large_outputs_have_the_bits_of_small_ones(target: Target, dtype: torch.dtype) -> None:
    """Above some size the CPU kernels store around the caches."""
    if target.slow:
        pytest.skip("the interpreter takes minutes for so many rows")
    case = target.make(min(1100, target.many_rows), 4096, dtype)
    normed, y = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
    small = target.backend.add_steer_rms_norm(*case.rows(slice(0, 40)).norm_arguments(0))
    assert same_bits(small[0], normed[:40])
    assert same_bits(small[1], y[:40])


def test_a_nan_row_stays_alone(
    target: Target,
) -> None:
    case = target.make(26, 64)
    expected = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
    case.x[5, 3] = float("nan")
    got = target.backend.add_steer_rms_norm(*case.norm_arguments(0))
    others = torch.arange(26) != 5
    assert same_bits(got[0][others], expected[0][others])
    assert same_bits(got[1][others], expected[1][others])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("dtype", HALVES)
def test_one_rounding(target: Target, dtype: torch.dtype, law: int) -> None:
    """Nearly every element is the correctly rounded one: two roundings would miss many."""
    case = target.make(13 if target.slow else 52, 1000, dtype, law=law, basis_dtype=torch.float32)
    h = case.x + case.residual
    y = target.backend.add_steer(case.x, case.residual, *case.tables)
    v, touched = reference.mix(*case.tables[:-1])
    laws = case.law[case.token_slot.clamp(0, len(case.law) - 1).long()]
    exact, _ = reference.row_law(h, v, laws, torch.float64)
    wrong = ulp_distance(y, exact.to(dtype))[touched] > 0
    assert float(wrong.float().mean()) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [64, 1000, 4096])
def test_preserve_keeps_the_norm_as_well_as_the_dtype_allows(
    target: Target, dtype: torch.dtype, d: int
) -> None:
    """Rounding d elements with relative error u moves the norm by u / sqrt(d) at random."""
    case = target.make(13 if target.slow else 52, d, dtype, law=Law.PRESERVE)
    h = case.x + case.residual
    y = target.backend.steer(h, *case.tables)
    ratio = y.double().norm(dim=-1) / h.double().norm(dim=-1)
    limit = 1e-6 + 4 / d**0.5 * (0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2)
    assert float((ratio - 1).abs().max()) < limit
