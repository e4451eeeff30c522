"""What steering costs on the user's machine; the harness of `benchmarks/` and the demo as well."""

from statistics import median

from emokernel.bench.harness import PairedRatio, append, compare_to, measure, now, read
from emokernel.machine import machine, machine_slug, versions
from emokernel.moved import renamed

__all__ = [
    "PairedRatio",
    "append",
    "compare_to",
    "machine",
    "machine_slug",
    "measure",
    "median",
    "now",
    "read",
    "versions",
]

__getattr__ = renamed(__name__)
