"""No row operation has become slower beside another: bounds in `speed`, one thread.

Twice the work anywhere in a kernel, or in the way to it, is more than they allow. With -rP pytest
shows what was measured.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import speed
import torch
from row_problem import DTYPES, Pool, Problem

from emokernel import _build_info
from emokernel.ops import cpu

pytestmark = pytest.mark.usefixtures("one_thread")
# By rows and width: many short calls, or few long ones.
ROUNDS = {speed.SMALL: 150, speed.LARGE: 15}


def ratios(
    rows: int, d: int, dtype: str, also: Callable[[Callable], Callable] = lambda call: call
) -> speed.Bounds:
    """What `speed.Bounds` bounds; ``also`` makes something else of each call with a vector."""
    pool = Pool(DTYPES[dtype], rows * d)  # one: what is read by turns should stay in the cache
    own = Problem(rows, d, DTYPES[dtype], pool)
    mixed = Problem(rows, d, DTYPES[dtype], pool, one_slot=True)
    calls = {
        "none": own.call(0),
        "one": also(own.call(1)),
        "copy": own.copy(),
        "mix of 1": mixed.call(1),
        "mix of 8": also(mixed.call(8)),
    }
    if dtype != "fp32":
        calls["fp32"] = Problem(rows, d // 2, torch.float32).call(1)
    found = speed.fastest(calls, ROUNDS[rows, d])
    return speed.Bounds(
        steered=found["one"] / found["none"],
        mixed=found["mix of 8"] / found["mix of 1"],
        bytes=found["one"] / found.get("fp32", found["one"]),
        copied=found["one"] / found["copy"],
    )


@pytest.mark.parametrize(("rows", "d"), ROUNDS)
@pytest.mark.parametrize(("isa", "dtype"), speed.ROWS)
def test_rows_cost_what_they_did(use_isa, isa: str, dtype: str, rows: int, d: int) -> None:
    if isa not in _build_info.isas_supported():
        pytest.skip(f"this machine has no {isa}")
    use_isa(isa)
    bounds = speed.bounds(isa, dtype, (rows, d))
    found = ratios(rows, d, dtype)._asdict()
    print(isa, dtype, rows, d, found)
    assert {name: (found[name], most) for name, most in bounds.items() if found[name] > most} == {}


def twice(call: Callable[[], object]) -> Callable[[], object]:
    """The work of a kernel that does it two times."""

    def calls() -> None:
        call()
        call()

    return calls


on_its_machine = pytest.mark.skipif(not speed.is_here(), reason=f"bounds are of {speed.CPU}")


@on_its_machine
def test_the_bounds_of_rows_notice_twice_the_work(use_isa) -> None:
    isa, dtype = "avx2", "bf16"
    if isa not in _build_info.isas_supported():
        pytest.skip(f"this machine has no {isa}")
    use_isa(isa)
    bounds = speed.bounds(isa, dtype, speed.SMALL)
    found = ratios(*speed.SMALL, dtype, also=twice)._asdict()
    assert [name for name, most in bounds.items() if found[name] <= most] == []


def call_over_add(also: Callable[[Callable], Callable] = lambda call: call) -> float:
    """A call as models make it, over the sum that it computes too."""
    problem = Problem(1, 1024, torch.float32)
    arguments = problem.arguments(problem.tables(1))
    with torch.no_grad():
        found = speed.fastest({
            "add": problem.plain_add,
            "ours": also(lambda: cpu.BACKEND.add_steer_rms_norm(*arguments)),
        })  # fmt: skip
    return found["ours"] / found["add"]


def test_a_call_costs_what_it_did() -> None:
    print(found := call_over_add())
    assert found < speed.CALL


@on_its_machine
def test_the_bound_of_a_call_notices() -> None:
    assert call_over_add(twice) > speed.CALL
