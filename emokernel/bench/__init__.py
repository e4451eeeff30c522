"""What steering costs on the user's machine; the harness of `benchmarks/` and the demo as well."""

from emokernel.bench.harness import (
    PairedRatio,
    compare_to,
    interleaved,
    measure,
    median,
    per_call,
)
from emokernel.bench.plots import plot_ops
from emokernel.bench.results import append, now, read
from emokernel.machine import machine, machine_slug, versions
from emokernel.moved import renamed

__all__ = [
    "PairedRatio",
    "append",
    "compare_to",
    "interleaved",
    "machine",
    "machine_slug",
    "measure",
    "median",
    "now",
    "per_call",
    "plot_ops",
    "read",
    "versions",
]

__getattr__ = renamed(__name__)
