"""How fast is one fused row operation, against copying its bytes and against torch?

    python benchmarks/ops.py [--quick] [--rows 2048 8192] [--d 4096] [--dtypes fp32 bf16]
    pytest benchmarks --benchmark-only        (make bench)

`add_steer_rms_norm` (Llama's norm) into given outputs, every row steered by a slot of its own, in
turn one of 256 slots over 32 vectors, under `Law.PRESERVE`. Variants:

    copy       the same bytes, 2 * rows * d elements, copied into memory that is already there
    none       emokernel with no row steered
    k1 k3 k8   emokernel with mixes of 1, 3 and 8 vectors
    eager      the model's own add and LlamaRMSNorm behind the plain hook: h + v in fp32, back to
               the norm, cast; the vectors of the rows gathered beforehand
    compiled   torch.compile of the specification, for this very shape

eager and compiled allocate their results in every call, as they would in a model.

The latency of one call (1 x 1024) is that of the backend's function, as a patched model calls it,
fresh outputs and all; that of the kernel alone is the slope from 1 to 9 rows, which stay in the
cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from tqdm import tqdm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from emokernel import bench, reference
from emokernel.extras import need
from emokernel.ops import cpu
from emokernel.reference import Cast, Law

RESULTS = Path(__file__).parent / "results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOTS, VECTORS, EPS = 256, 32, 1e-6
CALLS = 2000  # per measurement of the latency
# Of a copy's bandwidth; times an unsteered call; times faster than eager and compiled torch.
GOALS = {
    "fp32": {"copy": 0.85, "none": 1.2, "eager": 10.0, "compiled": 2.0},
    "bf16": {"copy": 0.65, "none": 1.2, "eager": 25.0, "compiled": 2.0},
}
LATENCY_GOALS = {"call": 5.0, "kernel": 1.0}  # microseconds


class Problem:
    """Random rows ``[rows, d]`` with a slot each, and the outputs."""

    def __init__(self, rows: int, d: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.residual = torch.randn(2, rows, d, generator=generator).to(dtype)
        self.weight = torch.rand(d, generator=generator).add(0.5).to(dtype)
        self.basis = torch.randn(VECTORS, d, generator=generator).to(dtype)
        self.token_slot = torch.arange(rows, dtype=torch.int32) % SLOTS
        self.law = torch.full((SLOTS,), int(Law.PRESERVE), dtype=torch.int32)
        self.y, self.normed = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.source = torch.stack([self.x, self.residual])
        self.target = torch.zeros_like(self.source)

    @property
    def bytes(self) -> int:
        """Read and written by one call: x, residual, y and normed."""
        return 4 * self.x.numel() * self.x.element_size()

    def tables(self, components: int) -> tuple[Tensor, ...]:
        """Slot s mixes the vectors s, s + 1, ... ."""
        number = torch.arange(SLOTS)[:, None] + torch.arange(components)
        ids = (number % VECTORS).to(torch.int32)
        weights = 0.5 + torch.rand(SLOTS, components, generator=torch.Generator().manual_seed(1))
        return self.basis, self.token_slot, ids, weights, self.law

    def arguments(self, tables: tuple[Tensor, ...]) -> tuple:
        return self.x, self.residual, self.weight, EPS, int(Cast.LLAMA), *tables

    def emokernel(self, components: int) -> Callable[[], object]:
        """The operation into given outputs; with 0 components no row is steered."""
        tables = self.tables(max(components, 1))
        if components == 0:
            tables = (tables[0], torch.full_like(self.token_slot, -1), *tables[2:])
        arguments = self.arguments(tables)
        operation = torch.ops.emokernel.add_steer_rms_norm_out.default
        return lambda: operation(*arguments, normed=self.normed, y=self.y)

    def eager(self) -> Callable[[], object]:
        norm = LlamaRMSNorm(self.x.shape[1], EPS)
        norm.weight.data = self.weight
        vectors, _ = reference.mix(*self.tables(1)[:4])

        def call() -> tuple[Tensor, Tensor]:
            h = self.x + self.residual
            wide = h.float()
            t = wide + vectors
            y = (t * (wide.norm(dim=-1, keepdim=True) / t.norm(dim=-1, keepdim=True))).to(h.dtype)
            return norm(y), y

        return call

    def compiled(self) -> Callable[[], object]:
        torch._dynamo.reset()  # else what another size taught it makes the shapes dynamic, and slow
        function = torch.compile(reference.add_steer_rms_norm, dynamic=False)
        arguments = self.arguments(self.tables(1))
        return lambda: function(*arguments)

    def variants(self, slow: bool = True) -> dict[str, Callable[[], object]]:
        fast = {
            "copy": lambda: self.target.copy_(self.source),
            "none": self.emokernel(0),
            **{f"k{count}": self.emokernel(count) for count in (1, 3, 8)},
        }
        return {**fast, "eager": self.eager(), "compiled": self.compiled()} if slow else fast


def throughput(rows: int, d: int, dtype: str, rounds: int) -> Iterator[dict[str, object]]:
    """One row of results per variant at this size."""
    problem = Problem(rows, d, DTYPES[dtype])
    label = f"{rows} x {d} {dtype}"
    with torch.no_grad():
        seconds = bench.measure(
            problem.variants(),
            rounds,
            wrap=lambda numbers: tqdm(numbers, desc=label, leave=False),
        )
    for name, times in seconds.items():
        against = {other: bench.compare_to(times, seconds[other]) for other in seconds}
        yield {
            "benchmark": "throughput",
            "rows": rows,
            "d": d,
            "dtype": dtype,
            "variant": name,
            "seconds": bench.median(times),
            "rounds": rounds,
            "gigabytes_per_second": problem.bytes / bench.median(times) / 1e9,
            # How many times slower the other variant is: against copy, the share of its bandwidth.
            "others_over_this": {
                other: [ratio.ratio, ratio.low, ratio.high] for other, ratio in against.items()
            },
        }


def latency(dtype: str, rounds: int, d: int = 1024) -> Iterator[dict[str, object]]:
    """One call at 1 x d in microseconds: the whole of it, and the kernel alone."""

    def calls(rows: int) -> Callable[[], object]:
        problem = Problem(rows, d, DTYPES[dtype])
        arguments = problem.arguments(problem.tables(1))

        def call() -> None:
            for _ in range(CALLS):
                cpu.BACKEND.add_steer_rms_norm(*arguments)

        return call

    with torch.no_grad():
        seconds = bench.measure({"one": calls(1), "nine": calls(9)}, rounds)
    one, nine = (1e6 * bench.median(seconds[name]) / CALLS for name in ("one", "nine"))
    for name, microseconds in (("call", one), ("kernel", (nine - one) / 8)):
        yield {
            "benchmark": "latency",
            "rows": 1,
            "d": d,
            "dtype": dtype,
            "variant": name,
            "microseconds": microseconds,
            "rounds": rounds,
        }


def report(rows: list[dict]) -> str:
    """A table of the results, with the goals that they meet or miss."""
    lines = []
    for row in rows:
        at = f"{row['rows']:>5} x {row['d']} {row['dtype']}  {row['variant']:<9}"
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
        if row["variant"] == "k1" and row["dtype"] in GOALS:
            lines += [f"{'':>24}{line}" for line in _verdicts(row)]
    return "\n".join(lines)


def _verdicts(row: dict) -> Iterator[str]:
    for other, goal in GOALS[row["dtype"]].items():
        ratio, low, high = row["others_over_this"][other]
        if other == "none":  # how much slower than unsteered
            ratio, low, high = 1 / ratio, 1 / high, 1 / low
        met = ratio <= goal if other == "none" else ratio >= goal
        what = {"copy": "of copy", "none": "x unsteered"}.get(other, f"x faster than {other}")
        verdict = "met" if met else "MISSED"
        yield f"{ratio:.2f} [{low:.2f}, {high:.2f}] {what}, goal {goal}: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, 2048 rows, no record")
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--d", type=int, default=4096)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    need("matplotlib")  # before anything is measured
    sizes, rounds = (options.rows[:1], 5) if options.quick else (options.rows, options.rounds)
    results: list[dict] = []
    for dtype in options.dtypes:
        for rows in sizes:
            results += throughput(rows, options.d, dtype, rounds)
        results += latency(dtype, rounds)
    print(report(results))
    if not options.quick:
        from ops_plot import plot_ops  # beside this file, where pytest does not look

        path = bench.append(options.output, "ops", results)
        print(f"\nappended to {path}; plot: {plot_ops(path)}")


@pytest.mark.parametrize("variant", ["copy", "none", "k1", "k3", "k8", "eager", "compiled"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_throughput(benchmark: Callable, dtype: str, variant: str) -> None:
    problem = Problem(2048, 4096, DTYPES[dtype])
    with torch.no_grad():
        call = problem.variants()[variant]
        call()
        benchmark.extra_info["bytes"] = problem.bytes
        benchmark.pedantic(call, rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_latency(benchmark: Callable, dtype: str) -> None:
    problem = Problem(1, 1024, DTYPES[dtype])
    arguments = problem.arguments(problem.tables(1))
    with torch.no_grad():
        benchmark(cpu.BACKEND.add_steer_rms_norm, *arguments)


if __name__ == "__main__":
    main()
