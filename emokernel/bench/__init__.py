"""The latency harness that `benchmarks/` and the demo share: measure, describe, record, plot."""

from emokernel.bench.environment import machine, machine_slug, versions
from emokernel.bench.harness import Comparison, compare_to, measure, median, per_call
from emokernel.bench.plots import plot_ops
from emokernel.bench.results import append, read

__all__ = [
    "Comparison",
    "append",
    "compare_to",
    "machine",
    "machine_slug",
    "measure",
    "median",
    "per_call",
    "plot_ops",
    "read",
    "versions",
]
