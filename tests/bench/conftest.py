"""Scripts of benchmarks/, most of them for a GPU, are imported by name, as they do each other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> None:
    """Make benchmarks/``name``.py the module ``name``; on the path its neighbours would be, too."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


# What the others import comes first.
for script in (
    "gpu_goals", "gpu_timing", "gpu_cases", "gpu_plots", "gpu_ops", "gpu_decode", "ops_plot",
):  # fmt: skip
    load(script)
