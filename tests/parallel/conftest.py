"""Every scenario runs once, in one pair of processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist
from parallel.launcher import run_ranks


@pytest.fixture(scope="session")
def _ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("needs a torch with torch.distributed and gloo")
    pytest.importorskip("accelerate", reason="transformers spreads no model without accelerate")
    return run_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="session")
def found(_ranks: list[dict[str, Any]]) -> Callable[[str], list[dict[str, Any]]]:
    """``found(scenario)``: what it found in each process."""

    def of(scenario: str) -> list[dict[str, Any]]:
        results = [rank[scenario] for rank in _ranks]
        for result in results:
            assert "error" not in result, result["error"]
        return results

    return of
