"""The plot of a results file."""

from __future__ import annotations

from pathlib import Path

from ops_plot import plot_ops

from emokernel import bench


def test_plot_of_operations(tmp_path: Path) -> None:
    rows = [
        {
            "benchmark": "throughput",
            "rows": 8,
            "d": 16,
            "dtype": dtype,
            "variant": variant,
            "seconds": seconds,
            "others_over_this": {"copy": [1 / seconds, 1 / seconds, 1 / seconds]},
        }
        for dtype in ("fp32", "bf16")
        for variant, seconds in (("copy", 1.0), ("k1", 1.5), ("eager", 20.0))
    ]
    picture = plot_ops(bench.append(tmp_path, "ops", rows))
    assert picture.parent == tmp_path
    assert picture.read_bytes().startswith(b"\x89PNG")
