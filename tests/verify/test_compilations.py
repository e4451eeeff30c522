"""Counting what torch.compile does."""

from __future__ import annotations

import pytest
import torch

from emokernel.verify.compilations import Compilations, counted_compilations


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_graphs_and_recompiles_are_counted() -> None:
    factor = {"value": 2.0}

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * factor["value"]

    compiled = torch.compile(scaled, backend="eager")
    with counted_compilations() as first:
        compiled(torch.ones(3))
        compiled(torch.zeros(3))
    assert (first.graphs, first.breaks, first.recompiles) == (1, [], [])
    with counted_compilations() as again:
        compiled(torch.ones(3, dtype=torch.float64))
    assert again.graphs == 1
    (reason,) = again.recompiles
    assert "dtype" in reason
    with counted_compilations() as nothing:
        compiled(torch.ones(3))
    assert (nothing.graphs, nothing.recompiles) == (0, [])


def test_graph_breaks_are_counted_with_their_reason() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    with counted_compilations() as count:
        torch.compile(broken, backend="eager")(torch.ones(3))
    assert count.graphs == 2
    assert len(count.breaks) == 1
    assert "graph_break" in count.breaks[0]


def test_what_was_compiled_is_counted_when_the_block_fails() -> None:
    def fail() -> None:
        with counted_compilations() as count:
            counts.append(count)
            torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
            raise ArithmeticError("too late")

    counts: list[Compilations] = []
    with pytest.raises(ArithmeticError, match="too late"):
        fail()
    assert counts[0].graphs == 1
