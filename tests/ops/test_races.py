"""The CUDA kernels under a search for races, and that the search finds each kind of one.

Another stream may rewrite a slot, or the slot of a row, while the row is computed. The threads of a
block then have to agree all the same: on what they wait for, and on what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from cuda_on_host.build import Fault, searching_library
from cuda_on_host.search import Found, RaceError, most_reads_on_cpu, run
from row_cases import DTYPES, LAYER, Case, make, same_bits
from torch import Tensor

from emokernel.reference import Cast

SEEDS = range(3)
# One warp, several, two vectors a thread; aligned and not.
WIDTHS = (64, 61, 1000, 1027)
LONG = (20008, 20011)  # of halves: computed anew in each pass


def same(a: Found, b: Found) -> bool:
    return same_bits(a.y, b.y) and (a.normed is None or same_bits(a.normed, b.normed))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_order_of_the_threads_gives_the_same(dtype: torch.dtype) -> None:
    widths = WIDTHS if dtype == torch.float32 else (64, 61, 1000)
    for d, norm in product(widths, (None, Cast.LLAMA, Cast.VLLM, LAYER)):
        case = make(6, d, dtype)
        expected = run(case, norm)
        for seed in SEEDS:
            assert same(run(case, norm, seed=seed, apart=bool(seed % 2)), expected)


@pytest.mark.parametrize("norm", [None, Cast.VLLM, LAYER])
@pytest.mark.parametrize("d", LONG)
def test_any_order_of_the_threads_of_long_rows(d: int, norm: Cast | str | None) -> None:
    case = make(5, d, torch.bfloat16).rows(slice(2, 5))
    expected = run(case, norm)
    assert same(run(case, norm, seed=0, apart=True), expected)


class Rewritten:
    """Rows of a case whose slots, and the slots' records, a hostile writer changes meanwhile."""

    def __init__(self, d: int, dtype: torch.dtype, components: int) -> None:
        made = [make(6, d, dtype, components=components, slots=4, seed=seed) for seed in range(3)]
        count = len(made[0].law)
        law = torch.tensor([[3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]], dtype=torch.int32)
        self.records = torch.stack([
            torch.cat([law, one.ids.flatten(), one.weights.view(torch.int32).flatten()])
            for law, one in zip(law, made, strict=True)
        ])  # fmt: skip
        slots = made[0].token_slot % count
        self.token_slots = torch.stack([slots, torch.full_like(slots, -1), slots.flip(0)])
        self.live = self.records[0].clone()
        self.case = self._reading(made[0], self.live, self.token_slots[0].clone())
        self._made = made[0]

    def _reading(self, case: Case, record: Tensor, token_slot: Tensor) -> Case:
        count, components = case.ids.shape
        law, ids, weights = record.split([count, count * components, count * components])
        return replace(
            case, law=law, ids=ids.view(count, -1),
            weights=weights.view(torch.float32).view(count, -1), token_slot=token_slot,
        )  # fmt: skip

    def only(self, rows: slice) -> None:
        self.case, self._made = self.case.rows(rows), self._made.rows(rows)
        self.token_slots = self.token_slots[:, rows].contiguous()

    @property
    def rewrites(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.live, self.records), (self.case.token_slot, self.token_slots)]

    def possible(
        self, norm: Cast | str | None, operation: Callable[..., Found] = run
    ) -> list[Found]:
        """What the rows are by each of the records and slots."""
        pairs = product(self.records, self.token_slots)
        return [operation(self._reading(self._made, *pair), norm) for pair in pairs]


def torn(found: Found, possible: list[Found]) -> list[int]:
    """The rows that no single record gives."""

    def is_one(row: int) -> bool:
        def of(found: Found) -> Found:
            normed = None if found.normed is None else found.normed[row]
            return Found(found.y[row], normed)

        return any(same(of(found), of(one)) for one in possible)

    return [row for row in range(len(found.y)) if not is_one(row)]


@pytest.mark.parametrize("norm", [None, Cast.LLAMA, LAYER])
@pytest.mark.parametrize(("d", "dtype"), [(1000, torch.float32), (4099, torch.float32),
                                          (2056, torch.bfloat16)])  # fmt: skip
def test_a_row_goes_by_one_record_that_is_rewritten_meanwhile(
    d: int, dtype: torch.dtype, norm: Cast | str | None
) -> None:
    for components, apart in ((3, False), (1, True)):  # one lane reads all of one component
        rows = Rewritten(d, dtype, components)
        possible, steered = rows.possible(norm), 0
        for seed in SEEDS:
            found = run(rows.case, norm, seed=seed, apart=apart, rewrites=rows.rewrites)
            assert not torn(found, possible)
            assert found.most_reads == 1
            steered += not same(found, run(rows.case.untouched(), norm))
        assert steered


@pytest.mark.parametrize("d", [20008, 20011])
def test_a_long_row_goes_by_one_record_that_is_rewritten_meanwhile(d: int) -> None:
    """Each pass reads the row again, but not the record."""
    rows = Rewritten(d, torch.bfloat16, 3)
    rows.only(slice(1, 3))
    possible = rows.possible(Cast.VLLM)
    for seed in SEEDS:
        found = run(rows.case, Cast.VLLM, seed=seed, rewrites=rows.rewrites)
        assert not torn(found, possible)
        assert found.most_reads == 1


def test_threads_agree_where_a_record_is_torn() -> None:
    """Lane by lane of a warp, a record may be half old: the same half for every thread."""
    for d, norm in product((1000, 4099), (None, Cast.LLAMA, LAYER)):
        rows = Rewritten(d, torch.float32, 3)
        for seed in SEEDS:
            found = run(rows.case, norm, seed=seed, apart=True, rewrites=rows.rewrites)
            assert found.y.isfinite().all()
            assert found.most_reads == 1


@pytest.mark.parametrize("norm", [None, Cast.GEMMA, LAYER])
def test_a_row_on_a_cpu_reads_a_record_once(norm: Cast | str | None) -> None:
    """Even as the source stands, before any optimisation."""
    for d, dtype in product((7, 64), DTYPES):
        rows = Rewritten(d, dtype, 3)
        assert most_reads_on_cpu(rows.case, norm, rows.rewrites) == 1


def run_in_place(case: Case, norm: Cast, **options: Any) -> Found:
    """`steer_rms_norm_` of x, and of the residual as what another norm has left."""
    return run(case, norm, in_place=(case.x.clone(), case.residual.clone()), **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_order_of_the_threads_gives_the_same_in_place(dtype: torch.dtype) -> None:
    for d in (61, 1000, LONG[1]):
        case = make(6, d, dtype).rows(slice(1, 4 if d in LONG else 6))
        expected = run_in_place(case, Cast.VLLM)
        assert not same_bits(expected.y, case.x)
        for seed in SEEDS[: 1 if d in LONG else 3]:
            assert same(run_in_place(case, Cast.VLLM, seed=seed, apart=bool(seed % 2)), expected)


@pytest.mark.parametrize(("d", "dtype"), [(1000, torch.float32), (LONG[0], torch.bfloat16)])
def test_a_row_in_place_goes_by_one_record_that_is_rewritten_meanwhile(
    d: int, dtype: torch.dtype
) -> None:
    rows = Rewritten(d, dtype, 3)
    if d in LONG:
        rows.only(slice(1, 3))
    possible, steered = rows.possible(Cast.VLLM, run_in_place), 0
    for seed in SEEDS:
        found = run_in_place(rows.case, Cast.VLLM, seed=seed, rewrites=rows.rewrites)
        assert not torn(found, possible)
        assert found.most_reads == 1
        steered += not same_bits(found.y, rows.case.x)
    assert steered
    given = (rows.case.x.clone(), rows.case.residual.clone())
    assert most_reads_on_cpu(rows.case, Cast.VLLM, rows.rewrites, given) == 1


@pytest.mark.parametrize("d", [61, 64, *LONG])
def test_a_row_in_place_without_a_mix_is_not_even_read(d: int) -> None:
    case = make(3, d, torch.bfloat16)
    case.token_slot.copy_(torch.tensor([-1, 2, 0]))  # slot 0 has no component

    def is_read(row: int) -> bool:
        y, normed = case.x.clone(), case.residual.clone()
        watched = [(rows, rows.clone()[None]) for rows in (y[row], normed)]
        found = run(case, Cast.VLLM, seed=0, rewrites=watched, in_place=(y, normed))
        return found.most_reads > 0

    assert [is_read(row) for row in range(3)] == [False, True, False]


READ_BY_EACH_WARP = (
    Fault("cuda_rows.cu", "__shared__ Mix mix;",
          "static Mix mixes[32]; Mix& mix = mixes[threadIdx.x / kCudaWarp];"),
    Fault("cuda_rows.cu", "lane = static_cast<int>(threadIdx.x);",
          "lane = static_cast<int>(threadIdx.x) % kCudaWarp;"),
)  # fmt: skip
NO_BARRIER_BEHIND_THE_RECORD = (Fault("cuda_rows.cu", "  __syncthreads();\n}", "}"),)
NO_BARRIER_IN_SUMS = (Fault("cuda_block.cuh", "    __syncthreads();\n", ""),)
SUMS_SHARE_THEIR_WORDS = (Fault("cuda_block.cuh", "partials_[used_++]", "partials_[used_ * 0]"),)
ONE_WARP_STEERS = (Fault("cuda_rows.cu", "if (mix_.present != 0) steer",
                         "if (mix_.present != 0 && threadIdx.x < kCudaWarp) steer"),)  # fmt: skip


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        (NO_BARRIER_BEHIND_THE_RECORD, "a race: "),
        (NO_BARRIER_IN_SUMS, "a race: "),
        (SUMS_SHARE_THEIR_WORDS, "a race: "),
        (ONE_WARP_STEERS, r"part: .*barrier in cuda_block.cuh:\d+, .* threads"),
    ],
    ids=["no barrier behind the record", "no barrier in sums", "sums share words", "warps part"],
)
def test_the_search_finds(faults: tuple[Fault, ...], says: str) -> None:
    library = searching_library(*faults)
    case = make(6, 1000, law=3)
    for seed in SEEDS:
        with pytest.raises(RaceError, match=says):
            run(case, LAYER, seed=seed, library=library)


def test_the_search_finds_warps_that_read_for_themselves() -> None:
    """Which is right as long as nobody writes."""
    library = searching_library(*READ_BY_EACH_WARP)
    rows = Rewritten(1000, torch.float32, 3)
    assert same(run(rows.case, LAYER, seed=0, library=library), run(rows.case, LAYER))
    possible, outcomes = rows.possible(LAYER), []
    for seed in range(20):
        try:
            found = run(rows.case, LAYER, seed=seed, rewrites=rows.rewrites, library=library)
        except RaceError as error:
            outcomes.append("parted" if " part: " in str(error) else "raced")
        else:
            assert found.most_reads > 1
            outcomes.append("torn" if torn(found, possible) else "by chance as it should be")
    assert {"parted"} <= set(outcomes) <= {"parted", "torn", "by chance as it should be"}
