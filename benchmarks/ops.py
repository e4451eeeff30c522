"""How fast is one fused row operation, against copying its bytes and against torch?

    python benchmarks/ops.py [--quick] [--isa avx2 avx512] [--rows 2048 8192] [--d 4096]
    pytest benchmarks --benchmark-only        (make bench)

`add_steer_rms_norm` (Llama's norm) into given outputs, every row steered by a slot of its own, in
turn one of 256 slots over 32 vectors, under `Law.PRESERVE`. Variants:

    copy       the same bytes, 2 * rows * d elements, copied into memory that is already there
    none       emokernel with no row steered
    k1 k3 k8   emokernel with mixes of 1, 3 and 8 vectors
    eager      the model's own add and LlamaRMSNorm behind the plain hook: h + v in fp32, back to
               the norm, cast; the vectors of the rows gathered beforehand
    compiled   torch.compile of the specification, for this very shape

All instruction sets of --isa are timed in the same rounds. eager and compiled allocate their
results in every call, as they would in a model.

The latency of one call (1 x 1024) is that of the backend's function, as a patched model calls it,
fresh outputs and all; that of the kernel alone is the slope from 1 to 9 rows, which stay in the
cache. `ops_shapes.py` has other shapes and forms.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from row_problem import DTYPES, EPS, RESULTS, Problem, isas, timed
from torch import Tensor
from tqdm import tqdm

from emokernel import _build_info, bench, reference
from emokernel.extras import need
from emokernel.ops import cpu

MIXES = {"none": 0, "k1": 1, "k3": 3, "k8": 8}  # components of a steered row
CALLS = 2000  # per measurement of the latency
# Of a copy's bandwidth with mixes of 1 and 8; times an unsteered call; times faster than torch.
COPY_GOALS = {"k1": 1.0, "k8": 0.9}
UNSTEERED_GOAL = 1.05
GOALS = {
    "fp32": {"eager": 10.0, "compiled": 2.0},
    "bf16": {"eager": 25.0, "compiled": 2.0},
    "fp16": {},
}
LATENCY_GOALS = {"call": 3.0, "kernel": 1.0}  # microseconds


def eager(problem: Problem) -> Callable[[], object]:
    """The model's own operations behind a hook."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm  # which takes seconds

    norm = LlamaRMSNorm(problem.x.shape[1], EPS)
    norm.weight.data = problem.weight
    vectors, _ = reference.mix(*problem.tables(1)[:4])

    def call() -> tuple[Tensor, Tensor]:
        h = problem.x + problem.residual
        wide = h.float()
        t = wide + vectors
        y = (t * (wide.norm(dim=-1, keepdim=True) / t.norm(dim=-1, keepdim=True))).to(h.dtype)
        return norm(y), y

    return call


def compiled(problem: Problem) -> Callable[[], object]:
    """The specification, compiled for this very shape."""
    torch._dynamo.reset()  # else what another size taught it makes the shapes dynamic, and slow
    function = torch.compile(reference.add_steer_rms_norm, dynamic=False)
    arguments = problem.arguments(problem.tables(1))
    return lambda: function(*arguments)


def readings(
    problem: Problem, levels: Sequence[str]
) -> dict[tuple[str | None, str], Callable[[], float]]:
    """By ISA (None: not ours) and variant, what times a call."""
    torchs = {"copy": problem.copy(), "eager": eager(problem), "compiled": compiled(problem)}
    ours = {(isa, mix): problem.call(count) for isa in levels for mix, count in MIXES.items()}
    return {
        **{(None, name): timed(call) for name, call in torchs.items()},
        **{key: timed(call, isa=key[0]) for key, call in ours.items()},
    }


def throughput(
    rows: int, d: int, dtype: str, rounds: int, levels: Sequence[str]
) -> Iterator[dict[str, object]]:
    """One row of results per ISA and variant at this size."""
    problem = Problem(rows, d, DTYPES[dtype])
    with torch.no_grad():
        seconds = bench.measure(
            readings(problem, levels),
            rounds,
            wrap=lambda numbers: tqdm(numbers, desc=f"{rows} x {d} {dtype}", leave=False),
            clock=lambda read: read(),
        )
    for (isa, name), times in seconds.items():
        against = {
            variant: bench.compare_to(times, others)
            for (level, variant), others in seconds.items()
            if level in (None, isa)
        }
        yield {
            "benchmark": "throughput",
            "rows": rows,
            "d": d,
            "dtype": dtype,
            "variant": name,
            "isa": isa,
            "seconds": bench.median(times),
            "rounds": rounds,
            "gigabytes_per_second": problem.bytes() / bench.median(times) / 1e9,
            # How many times slower the other variant is: against copy, the share of its bandwidth.
            "others_over_this": {
                other: [ratio.ratio, ratio.low, ratio.high] for other, ratio in against.items()
            },
        }


def latency(
    dtype: str, rounds: int, levels: Sequence[str], d: int = 1024
) -> Iterator[dict[str, object]]:
    """One call at 1 x d in microseconds: the whole of it, and the kernel alone."""

    def reading(rows: int, isa: str) -> Callable[[], float]:
        problem = Problem(rows, d, DTYPES[dtype])
        arguments = problem.arguments(problem.tables(1))
        return timed(lambda: cpu.BACKEND.add_steer_rms_norm(*arguments), CALLS, isa=isa)

    with torch.no_grad():
        seconds = bench.measure(
            {(isa, rows): reading(rows, isa) for isa in levels for rows in (1, 9)},
            rounds,
            clock=lambda read: read(),
        )
    for isa in levels:
        one, nine = (1e6 * bench.median(seconds[isa, rows]) for rows in (1, 9))
        for name, microseconds in (("call", one), ("kernel", (nine - one) / 8)):
            yield {
                "benchmark": "latency",
                "rows": 1,
                "d": d,
                "dtype": dtype,
                "variant": name,
                "isa": isa,
                "microseconds": microseconds,
                "rounds": rounds,
            }


def report(rows: list[dict]) -> str:
    """A table of the results, with the goals that they meet or miss."""
    lines = []
    for row in rows:
        at = f"{row['rows']:>5} x {row['d']} {row['dtype']} {row['isa'] or '':<10} "
        at += f"{row['variant']:<9}"
        if row["benchmark"] == "latency":
            goal = LATENCY_GOALS[row["variant"]]
            verdict = "met" if row["microseconds"] <= goal else "MISSED"
            lines.append(f"{at} {row['microseconds']:8.2f} us   goal {goal} us: {verdict}")
            continue
        of_copy = row["others_over_this"]["copy"][0]
        lines.append(
            f"{at} {1e3 * row['seconds']:8.2f} ms {row['gigabytes_per_second']:7.1f} GB/s"
            f" {100 * of_copy:6.1f} % of copy"
        )
        lines += [f"{'':>24}{line}" for line in _verdicts(row)]
    return "\n".join(lines)


def _verdicts(row: dict) -> Iterator[str]:
    against, variant = row["others_over_this"], row["variant"]
    if variant in COPY_GOALS:
        yield _verdict(against["copy"], "of copy", COPY_GOALS[variant])
    if variant == "k1":
        ratio, low, high = (1 / each for each in against["none"])
        yield _verdict([ratio, high, low], "x unsteered", UNSTEERED_GOAL, at_most=True)
        for other, goal in GOALS[row["dtype"]].items():
            yield _verdict(against[other], f"x faster than {other}", goal)


def _verdict(found: Sequence[float], what: str, goal: float, *, at_most: bool = False) -> str:
    ratio, low, high = found
    verdict = "met" if (ratio <= goal if at_most else ratio >= goal) else "MISSED"
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}] {what}, goal {goal}: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, 2048 rows, no record")
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--d", type=int, default=4096)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    best = _build_info.choose_isa()
    parser.add_argument("--isa", nargs="+", choices=isas(), default=[best], help=f"({best})")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    need("matplotlib")  # before anything is measured
    sizes, rounds = (options.rows[:1], 5) if options.quick else (options.rows, options.rounds)
    results: list[dict] = []
    for dtype in options.dtypes:
        for rows in sizes:
            results += throughput(rows, options.d, dtype, rounds, options.isa)
        results += latency(dtype, rounds, options.isa)
    print(report(results))
    if not options.quick:
        from ops_plot import plot_ops  # beside this file, where pytest does not look

        path = bench.append(options.output, "ops", results)
        print(f"\nappended to {path}; plot: {plot_ops(path)}")


@pytest.mark.parametrize("variant", ["copy", *MIXES, "eager", "compiled"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_throughput(benchmark: Callable, dtype: str, variant: str) -> None:
    problem = Problem(2048, 4096, DTYPES[dtype])
    torchs = {"copy": problem.copy, "eager": lambda: eager(problem)}
    torchs["compiled"] = lambda: compiled(problem)
    with torch.no_grad():
        call = torchs[variant]() if variant in torchs else problem.call(MIXES[variant])
        call()
        benchmark.extra_info["bytes"] = problem.bytes()
        benchmark.pedantic(call, rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_latency(benchmark: Callable, dtype: str) -> None:
    problem = Problem(1, 1024, DTYPES[dtype])
    arguments = problem.arguments(problem.tables(1))
    with torch.no_grad():
        benchmark(cpu.BACKEND.add_steer_rms_norm, *arguments)


if __name__ == "__main__":
    main()
