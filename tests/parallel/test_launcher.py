"""Processes that hang or fail end the others, and what they said is told."""

from __future__ import annotations

import pytest
from parallel.launcher import run_ranks


@pytest.mark.parametrize(
    ("name", "limit", "told"),
    [("hangs", 5.0, "rank 1: waiting for the others"), ("fails", 200.0, "something is wrong")],
)
def test_a_rank_that_hangs_or_fails_ends_the_others(name, limit, told, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(RuntimeError, match=told):
        run_ranks(folder, "parallel.stuck", limit)
