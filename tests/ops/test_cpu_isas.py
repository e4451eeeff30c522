"""Every instruction-set level gives the same bits, and conversions are those of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from row_cases import (
    DTYPES,
    HALVES,
    WIDTHS,
    changed_in_place,
    changed_rows,
    make,
    same_bits,
    threads,
)

from emokernel import _build_info
from emokernel.ops.cpu import BACKEND
from emokernel.reference import Cast

LEVELS = _build_info.isas_supported()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS[1:])
def test_levels_agree_bit_for_bit(
    use_isa: Callable[[str], None], level: str, dtype: torch.dtype
) -> None:
    for d in WIDTHS:
        for cast in Cast:
            case = make(13, d, dtype, components=2, basis_dtype=(dtype, torch.float32)[cast % 2])
            use_isa("portable")
            expected = BACKEND.add_steer_rms_norm(*case.norm_arguments(cast))
            use_isa(level)
            got = BACKEND.add_steer_rms_norm(*case.norm_arguments(cast))
            assert same_bits(got[0], expected[0]), (d, cast)
            assert same_bits(got[1], expected[1]), (d, cast)
            changed = changed_rows(case)
            in_place = changed_in_place(BACKEND.steer_rms_norm_, case, cast)
            assert same_bits(in_place[0][changed], expected[0][changed]), (d, cast)
            assert same_bits(in_place[1][changed], expected[1][changed]), (d, cast)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_survives(
    use_isa: Callable[[str], None], level: str, dtype: torch.dtype
) -> None:
    """All 65536 numbers: copied by steer, and widened and rounded again by x + -0."""
    use_isa(level)
    case = make(256, 256, dtype).untouched()
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(256, 256)
    copied = BACKEND.steer(numbers, *case.tables)
    assert torch.equal(copied.view(torch.int16), numbers.view(torch.int16)), "NaN has bits too"
    summed = BACKEND.add_steer(numbers, torch.full_like(numbers, -0.0), *case.tables)
    assert same_bits(summed, numbers)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_is_torchs(use_isa: Callable[[str], None], level: str, dtype: torch.dtype) -> None:
    """h = 0 and weight 1 under plain addition: y is the fp32 basis vector, rounded."""
    use_isa(level)
    g = torch.Generator().manual_seed(0)
    random = torch.randint(-(2**31), 2**31, (8, 4096), generator=g).to(torch.int32)
    halves = torch.arange(2**16, dtype=torch.int64) << 16
    ties = torch.cat([halves + 0x8000, halves + 0x7FFF, halves + 0x8001, halves])
    around = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16).float()
    shift = around.view(torch.int32).long()[:, None] + torch.tensor([0xFFF, 0x1000, 0x1001])
    bits = torch.cat([random.view(-1).long(), ties, shift.view(-1)])
    bits = torch.where(bits >= 2**31, bits - 2**32, bits).to(torch.int32)
    basis = torch.nn.functional.pad(bits, (0, -len(bits) % 1024)).view(torch.float32).view(-1, 1024)
    rows = len(basis)
    count = torch.arange(rows, dtype=torch.int32)
    zeros = torch.zeros(rows, 1024, dtype=dtype)
    y = BACKEND.steer(zeros, basis, count, count[:, None], torch.ones(rows, 1), 0 * count)
    assert same_bits(y, (0.0 + basis).to(dtype))  # +0 + -0 is +0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("d", [3, 40, 64])
def test_a_nan_of_any_bits_stays_one(use_isa: Callable[[str], None], level: str, d: int) -> None:
    """In fp32 vectors and weights of rows in bf16: rounding could carry such bits away to 0."""
    use_isa(level)
    bits = torch.tensor([0x7FFFFFFF, -1, 0x7F800001], dtype=torch.int32)
    nans = bits.view(torch.float32).repeat_interleave(d)
    column = torch.arange(len(nans))
    basis = torch.ones(len(nans), d)
    basis[column, column % d] = nans
    rows, number = torch.zeros(len(nans), d, dtype=torch.bfloat16), column.int()
    y = BACKEND.steer(rows, basis, number, number[:, None], torch.ones(len(nans), 1), 0 * number)
    assert torch.equal(y.isnan(), basis.isnan())
    weights = nans[:, None].contiguous()
    y = BACKEND.steer(rows, torch.ones_like(basis), number, number[:, None], weights, 0 * number)
    assert y.isnan().all()


@pytest.mark.parametrize("slots", [1, 11, 4096, 5000])
def test_rows_of_a_slot_share_its_mix(slots: int) -> None:
    """More rows than are put in order at once, and slots that are too many to be put in order."""
    case = make(8200, 33, torch.bfloat16, slots=max(slots, 4))
    order = torch.randperm(8200, generator=torch.Generator().manual_seed(3))
    token_slot = case.token_slot[order] if slots > 1 else torch.full_like(case.token_slot, 3)
    case = replace(case, token_slot=token_slot)
    with threads(1):
        normed, y = BACKEND.add_steer_rms_norm(*case.norm_arguments(Cast.LLAMA))
        changed = changed_in_place(BACKEND.steer_rms_norm_, case, Cast.LLAMA)
        for row in [*range(0, 8200, 29), 4095, 4096, 4097, 8191, 8192, 8199]:
            alone = case.rows(slice(row, row + 1))
            one_normed, one_y = BACKEND.add_steer_rms_norm(*alone.norm_arguments(Cast.LLAMA))
            assert same_bits(one_normed[0], normed[row])
            assert same_bits(one_y[0], y[row])
    steered = changed_rows(case)
    assert same_bits(changed[0][steered], normed[steered])
    assert same_bits(changed[1][steered], y[steered])


def run(level: str) -> subprocess.CompletedProcess:
    """Asks a fresh process with EMOKERNEL_CPU_ISA set how the backend describes itself."""
    script = (
        "from emokernel.ops import cpu; about = cpu.describe();"
        "print(about['unavailable'], about.get('isa'))"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "EMOKERNEL_CPU_ISA": level},
        capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_forced_level() -> None:
    assert run("portable").stdout.split() == ["None", "portable"]


def test_unknown_level_is_refused() -> None:
    refusal = "EMOKERNEL_CPU_ISA=sse9: no such level in this build; choose one of"
    assert refusal in run("sse9").stdout
