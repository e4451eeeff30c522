"""How often torch.compile compiled, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Compilations:
    """What was compiled in a block of `counted_compilations`; complete when the block ends.

    ``graphs``: how many graphs. ``breaks``: why each graph break was. ``recompiles``: for each
    frame that was compiled again, torch's own account of the guards that failed.
    """

    graphs: int = 0
    breaks: list[str] = field(default_factory=list)
    recompiles: list[str] = field(default_factory=list)


@contextmanager
def counted_compilations() -> Iterator[Compilations]:
    """Counts the graphs, graph breaks and recompiles of torch.compile within the block.

    Read from TorchDynamo's own counters, which all threads of the process share.
    """
    from torch._dynamo.utils import counters, get_compilation_metrics

    count = Compilations()
    graphs = counters["stats"]["unique_graphs"]
    breaks = counters["graph_break"].copy()
    # The list drops its oldest entries, so that old and new are told apart by identity.
    known = {id(entry): entry for entry in get_compilation_metrics()}
    try:
        yield count
    finally:
        count.graphs = counters["stats"]["unique_graphs"] - graphs
        count.breaks = list((counters["graph_break"] - breaks).elements())
        count.recompiles = [
            entry.recompile_reason
            for entry in get_compilation_metrics()
            if id(entry) not in known and entry.recompile_reason
        ]
