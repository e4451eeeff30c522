"""What does steering behind an engine's own norm cost, against one operation that does it all?

    python benchmarks/ops_in_place.py [--quick] [--d 576 4096] [--rows 1 32 256] [--dtypes ...]

An engine such as vLLM adds and norms by itself, and `steer_rms_norm_` then changes the rows that
somebody steers; `add_steer_rms_norm` would do it in one. Of all rows none, a tenth or each is
steered, by a slot of its own in turn of 256 (`Law.PRESERVE`, one vector, vLLM's cast). Variants:

    torch, torch+op      vLLM's norm in plain torch (`forward_native`); the operation behind it
    kernel, kernel+op    emokernel's fused norm with no row steered, in the place of vLLM's own
                         kernel; the operation behind it
    fused                add_steer_rms_norm, which steers as well

Fresh outputs in every call but those of the operation, which goes on in what the norm has made.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from row_problem import DTYPES, EPS, RESULTS, SLOTS, Problem, repeats_for, timed
from torch import Tensor
from tqdm import tqdm

from emokernel import bench
from emokernel.ops import cpu
from emokernel.reference import Cast

SHARES = (0.0, 0.1, 1.0)
SECONDS = 3e-3  # of one reading, about
CAST = int(Cast.VLLM)
Pair = tuple[Tensor, Tensor]  # normed, y


def plain_norm(x: Tensor, residual: Tensor, weight: Tensor) -> Pair:
    """(normed, sum) as vLLM's RMSNorm computes them in torch."""
    exact = x.float() + residual.float()
    n = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + EPS)
    return n.to(x.dtype) * weight, exact.to(x.dtype)


def variants(problem: Problem, share: float) -> dict[str, Callable[[], Pair]]:
    """All of them, with that share of the rows steered, anywhere among the others."""
    rows = len(problem.x)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(2))
    token_slot = torch.full((rows,), -1, dtype=torch.int32)
    steered = order[: round(share * rows)]
    token_slot[steered] = torch.arange(len(steered), dtype=torch.int32) % SLOTS
    basis, _, *tables = problem.tables(1)
    mixes = basis, token_slot, *tables
    nobody = basis, torch.full_like(token_slot, -1), *tables
    x, residual, weight = problem.x, problem.residual, problem.weight
    backend = cpu.BACKEND

    def torch_norm() -> Pair:
        return plain_norm(x, residual, weight)

    def kernel_norm() -> Pair:
        return backend.add_steer_rms_norm(x, residual, weight, EPS, CAST, *nobody)

    def then(norm: Callable[[], Pair]) -> Callable[[], Pair]:
        def call() -> Pair:
            normed, y = norm()
            backend.steer_rms_norm_(y, normed, weight, EPS, CAST, *mixes)
            return normed, y

        return call

    return {
        "torch": torch_norm,
        "torch+op": then(torch_norm),
        "kernel": kernel_norm,
        "kernel+op": then(kernel_norm),
        "fused": lambda: backend.add_steer_rms_norm(x, residual, weight, EPS, CAST, *mixes),
    }


def measured(
    rows: int, d: int, dtype: str, share: float, rounds: int, *, cpu_time: bool = False
) -> Iterator[dict]:
    """One row of results for each variant."""
    clock = time.thread_time if cpu_time else time.perf_counter
    calls = variants(Problem(rows, d, DTYPES[dtype]), share)
    readings = {
        name: timed(call, repeats_for(SECONDS, timed(call, clock=clock)), clock=clock)
        for name, call in calls.items()
    }
    seconds = bench.measure(readings, rounds, clock=lambda read: read())
    for name, times in seconds.items():
        of_fused = bench.compare_to(seconds["fused"], times)
        of_norm = bench.compare_to(seconds[name.removesuffix("+op")], times)
        yield {
            "benchmark": "in place",
            "rows": rows,
            "d": d,
            "dtype": dtype,
            "share": share,
            "variant": name,
            "microseconds": 1e6 * bench.median(times),
            "threads": torch.get_num_threads(),
            "clock": "cpu_clock" if cpu_time else "wall_clock",
            "rounds": rounds,
            "over_fused": [of_fused.ratio, of_fused.low, of_fused.high],
            "over_norm": [of_norm.ratio, of_norm.low, of_norm.high],
        }


def report(results: list[dict]) -> str:
    """A line for each shape: microseconds by variant, and what the operation adds to a norm."""
    names = list(dict.fromkeys(row["variant"] for row in results))
    lines = [
        "     shape          steered " + "".join(f"{name:>11}" for name in names) + "   op adds"
    ]
    for start in range(0, len(results), len(names)):
        group = {row["variant"]: row for row in results[start : start + len(names)]}
        first, behind = next(iter(group.values())), group["kernel+op"]
        times = "".join(f"{group[name]['microseconds']:11.1f}" for name in names)
        added = behind["microseconds"] - group["kernel"]["microseconds"]
        ratio, low, high = behind["over_fused"]
        lines.append(
            f"{first['rows']:>4} x {first['d']} {first['dtype']} {100 * first['share']:6.0f} %"
            f" {times} {added:8.1f} us; kernel+op over fused {ratio:.2f} [{low:.2f}, {high:.2f}]"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no record")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--d", type=int, nargs="+", default=[576, 4096])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--cpu-time", action="store_true", help="that of one thread: other programs may run beside"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    rounds = 8 if options.quick else options.rounds
    results: list[dict] = []
    if options.cpu_time:
        torch.set_num_threads(1)
    shapes = list(product(options.dtypes, options.d, options.rows, SHARES))
    with torch.no_grad():
        for dtype, d, rows, share in tqdm(shapes):
            if share == 0 or round(share * rows) > 0:
                results += measured(rows, d, dtype, share, rounds, cpu_time=options.cpu_time)
    print(report(results))
    if not options.quick:
        print(f"\nappended to {bench.append(options.output, 'ops_in_place', results)}")


if __name__ == "__main__":
    main()
