"""The benchmark of steering behind an engine's own norm: what it times, and what it says."""

from __future__ import annotations

import ops_in_place
import pytest
import torch
from row_cases import DTYPES, exactly


@pytest.mark.parametrize("share", ops_in_place.SHARES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_ways_give_the_same_rows(dtype: torch.dtype, share: float) -> None:
    problem = ops_in_place.Problem(20, 64, dtype)
    made = {name: call() for name, call in ops_in_place.variants(problem, share).items()}
    for theirs, mine in zip(made["fused"], made["kernel+op"], strict=True):
        assert exactly(mine, theirs)
    for theirs, mine in zip(made["fused"], made["torch+op"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=1e-2)
    changed = (made["fused"][1] != made["kernel"][1]).any(-1)
    assert int(changed.sum()) == round(20 * share)


def test_a_row_of_results_for_each_variant() -> None:
    results = list(ops_in_place.measured(2, 64, "fp32", 1.0, rounds=1))
    assert [row["variant"] for row in results] == [
        "torch",
        "torch+op",
        "kernel",
        "kernel+op",
        "fused",
    ]
    assert all(row["microseconds"] > 0 for row in results)
    assert "2 x 64 fp32    100 %" in ops_in_place.report(results)
