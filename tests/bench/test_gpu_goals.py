"""Goals are judged by what was measured; what was not is said to be so."""

from __future__ import annotations

from gpu_goals import DECODE, EAGER, HOST, HOST_OP, KERNEL, Goal, goals, report


def kernel(variant: str, rows: int, d: int, **others: float) -> dict:
    return {
        "benchmark": KERNEL,
        "operation": "add_steer_rms_norm",
        "dtype": "bf16",
        "law": "preserve",
        "rows": rows,
        "d": d,
        "variant": variant,
        "others_over_this": {name: [value, value, value] for name, value in others.items()},
    }


def decode(mode: str, ratio: float, batch: int = 1) -> dict:
    return {
        "benchmark": DECODE,
        "model": "tiny",
        "batch": batch,
        "mode": mode,
        "variant": "emokernel_cuda",
        "ratio": [ratio, ratio, ratio],
    }


def one(rows: list[dict], part: str) -> Goal:
    """The only goal whose text has ``part``."""
    (goal,) = [goal for goal in goals(rows) if part in goal.text]
    return goal


def test_bandwidth_and_cost_of_steering() -> None:
    rows = [
        kernel("cuda_k1", 8192, 4096, copy=0.91, cuda_k0=1 / 1.02),
        kernel("cuda_k1", 8192, 8192, copy=0.89, cuda_k0=1 / 1.04),
        kernel("triton_k1", 8192, 8192, copy=0.89),
    ]
    assert one(rows, "cuda, 8192 x 4096, K = 1: of a copy").verdict == "met"
    assert one(rows, "cuda, 8192 x 8192, K = 1: of a copy").verdict == "MISSED"
    assert one(rows, "triton, 8192 x 8192").verdict == "met"
    assert one(rows, "triton, 8192 x 4096").verdict == "not measured"
    assert one(rows, "cuda_k1, 8192 x 4096: x unsteered").verdict == "met"
    missed = one(rows, "cuda_k1, 8192 x 8192: x unsteered")
    assert missed.verdict == "MISSED"
    assert missed.value.startswith("1.040")


def test_the_worst_place_decides() -> None:
    rows = [
        kernel("cuda_k1", 8, d, cuda_k0=1.0) | {"above_unsteered_us": above}
        for d, above in ((1024, 0.1), (16384, 0.6), (4096, 0.2))
    ]
    goal = one(rows, "cuda_k1, 8 rows")
    assert goal.verdict == "MISSED"
    assert "0.600" in goal.value
    assert "8 x 16384" in goal.value
    assert "1 missed" in goal.value
    assert one(rows[:1], "cuda_k1, 8 rows").verdict == "met"


def test_shapes_that_were_not_run_are_counted() -> None:
    rows = [
        kernel("cuda_k1", 64, 4096, compiled=1.5, hook=12.0),
        kernel("compiled", 64, 8192) | {"not_run": "the budget of 1 s was spent"},
    ]
    assert one(rows, "torch.compile").verdict == "met where run (1 of 2)"
    assert one(rows[1:], "torch.compile").verdict == "not measured"
    rows[0] = kernel("cuda_k1", 64, 4096, compiled=0.97)
    assert one(rows, "torch.compile").verdict == "MISSED"


def test_hook_up_to_256_rows_in_both_modes() -> None:
    rows = [kernel("cuda_k1", 256, 4096, hook=10.5), kernel("cuda_k1", 8192, 4096, hook=4.0)]
    rows.append({**kernel("cuda_k1", 1, 4096, hook=9.0), "benchmark": EAGER})
    assert one(rows, "in a CUDA graph").verdict == "met"
    assert one(rows, "called eagerly").verdict == "MISSED"


def test_host_cost() -> None:
    row = {"benchmark": HOST, "rows": 1, "d": 4096, "variant": HOST_OP, "microseconds": 2.9}
    assert one([row], HOST_OP).verdict == "met"
    assert one([row | {"microseconds": 3.1}], HOST_OP).verdict == "MISSED"


def test_decode_steps() -> None:
    rows = [decode("eager", 0.99), decode("graph", 1.009), decode("graph", 1.012, batch=16)]
    assert one(rows, "eager step").verdict == "met"
    graph = one(rows, "graph step")
    assert graph.verdict == "MISSED"
    assert "batch 16" in graph.value
    failed = [decode("graph", 1.0) | {"error": "RuntimeError: capture\nmore"}]
    assert one(failed, "graph step") == Goal(
        "tiny, graph step with emokernel: x unpatched, at most 1.01",
        "RuntimeError: capture",
        "not measured",
    )


def test_other_kinds_of_rows_are_no_evidence() -> None:
    other = kernel("cuda_k1", 8192, 4096, copy=0.99) | {"dtype": "fp32"}
    assert one([other], "cuda, 8192 x 4096, K = 1: of a copy").verdict == "not measured"
    assert "not measured" in report([other])
    assert goals([]) == []
