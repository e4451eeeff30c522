"""How fast are the row operations on a GPU, against a copy, the plain hook, and torch.compile?

    python benchmarks/gpu_ops.py [--budget SECONDS] [--output DIR]
    python benchmarks/gpu_ops.py --warm        only fills the caches of Triton and torch.compile
    python benchmarks/gpu_ops.py --device cpu --smoke       the same path without a GPU, tiny

The time of a kernel is that of a CUDA graph of many calls over rotating buffers (`gpu_cases`),
variants interleaved. The calls follow each other without a gap: where a kernel is launched as a
dependent one (programmatic dependent launch), the start of each overlaps the end of the one before,
as it would only behind such a kernel in a model. Variants of a shape:

    copy                    Tensor.copy_ of as many bytes
    cuda_k0 k1 k3 k8        emokernel's CUDA kernel: no row steered, or every row by a slot of its
                            own, in turn one of 256, each a mix of 1, 3 or 8 of 32 vectors
    triton_k0 ...           its Triton kernel
    hook                    the model's own add and LlamaRMSNorm, the plain hook in between
    compiled                torch.compile of the specification for this very shape, one vector a row
    liger                   Liger's fused add and RMSNorm, where it is installed; it steers nothing

The last three only for add_steer_rms_norm at chosen shapes. What the goals need comes first; what
the budget does not reach is recorded as not run. On the CPU the backends cpu and reference stand in
for cuda and triton.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from gpu_cases import DTYPES, LAWS, MIXES, Case, Pool, Tables, Variants
from gpu_goals import EAGER, HOST, HOST_OP, KERNEL, report
from gpu_plots import plot_kernels
from gpu_timing import (
    Budget,
    Call,
    Prepared,
    eager_seconds,
    enqueue_seconds,
    timer_for,
)
from tqdm import tqdm

from emokernel import bench
from emokernel.ops import available, schemas
from emokernel.ops.backends import load

RESULTS = Path(__file__).parent / "results"
BACKENDS = {"cuda": ("cuda", "triton"), "cpu": ("cpu", "reference")}
FUSED = "add_steer_rms_norm"
D = (1024, 2048, 2560, 3584, 4096, 5120, 7168, 8192, 16384)
ROWS = (1, 8, 64, 256, 2048, 8192)
MAIN_D, SIDE_ROWS = (4096, 8192), (1, 256, 8192)
EAGER_ROWS, EAGER_D = (1, 8, 64, 256), 4096
MAIN_ROUNDS = 40
HOOK_KERNELS = 16  # or fewer, of the plain hook path
RIVALS = ("hook", "compiled", "liger")
OTHER_OPERATIONS = [name for name in schemas.OPERATIONS if name != FUSED]
OTHER_LAWS = [law for law in LAWS if law != Case.law]


def cases(smoke: bool) -> list[Case]:
    """What is measured, in this order."""
    if smoke:
        tiny = [Case(FUSED, rows, 64, rivals=rows == 4, rounds=2) for rows in (1, 4)]
        tiny += [Case(FUSED, 2, 64, law=law, rounds=2) for law in OTHER_LAWS]
        tiny.append(Case(FUSED, 2, 64, "fp32", rounds=2))
        return tiny + [Case(name, 2, 64, rounds=2) for name in OTHER_OPERATIONS]
    main = [(8192, 4096), (8192, 8192)]
    main += [(rows, d) for rows in (1, 8, 64, 256, 2048) for d in MAIN_D]
    side = [(rows, d) for rows in SIDE_ROWS for d in D if d not in MAIN_D]
    rest = [(rows, d) for d in D for rows in ROWS if (rows, d) not in {*main, *side}]
    some = [(1, 4096), (256, 4096), (8192, 4096)]
    grid = [Case(FUSED, *shape, rivals=True, rounds=MAIN_ROUNDS) for shape in main]
    grid += [Case(FUSED, *shape, rivals=True, rounds=20) for shape in side]
    grid += [Case(FUSED, *shape, rounds=12) for shape in rest]
    grid += [Case(FUSED, *shape, dtype) for dtype in ("fp32", "fp16") for shape in some]
    grid += [Case(FUSED, *shape, law=law) for law in OTHER_LAWS for shape in some]
    for name in OTHER_OPERATIONS:
        grid += [Case(name, rows, d) for d in D for rows in ROWS]
    return grid


class Benchmark:
    """The memory and the timer of a run, and the rows of results that it collects."""

    def __init__(
        self, device: torch.device, todo: Sequence[Case], compiling: Budget, smoke: bool
    ) -> None:
        self.device, self.timer, self.compiling = device, timer_for(device), compiling
        facts = bench.machine()["gpu_facts"] or {}
        self.l2_bytes = facts.get("l2_bytes", 0)
        self.smoke = smoke
        self.backends = BACKENDS[device.type]
        self.refusals = available(device)
        self.rows: list[dict[str, object]] = []
        self._tables: dict[tuple, Tables] = {}
        # All of them now: the GPU's random numbers do not survive a capture that fails.
        self._pools = {}
        for dtype in dict.fromkeys(case.dtype for case in todo):
            elements = Pool.elements([c for c in todo if c.dtype == dtype], self.l2_bytes)
            self._pools[dtype] = Pool(elements, DTYPES[dtype], device)

    def variants(self, case: Case, sets: int | None = None) -> Variants:
        key = case.d, case.dtype, case.law
        if key not in self._tables:
            self._tables[key] = Tables(case.d, DTYPES[case.dtype], LAWS[case.law], self.device)
        sets = sets or (2 if self.smoke else case.sets(self.l2_bytes))
        return Variants(case, self._pools[case.dtype], self._tables[key], sets)

    def raise_clocks(self, seconds: float = 0.5) -> None:
        """Keeps a GPU busy until it runs at the clocks that it has under load."""
        pool = next(iter(self._pools.values()))
        end = time.monotonic() + (0 if self.smoke else seconds)
        while time.monotonic() < end:
            pool.target.copy_(pool.source)
            self.timer.synchronize()

    def names(self, case: Case) -> list[str]:
        """The variants of a case."""
        ours = [f"{backend}_k{k}" for backend in self.backends for k in (0, *MIXES)]
        rivals = [name for name in RIVALS if name != "liger" or _liger_installed()]
        return ["copy", *ours, *(rivals if case.rivals else [])]

    def kernel(self, case: Case) -> None:
        """Measures every variant of a case."""
        variants = self.variants(case)
        ready: dict[str, Prepared] = {}
        calls: dict[str, int] = {}
        failed: dict[str, dict[str, str]] = {}
        for name in self.names(case):
            reason = self.refusals.get(name.partition("_k")[0])
            if name == "compiled":
                reason = self.compiling.refusal()
            if reason is not None:
                failed[name] = {"not_run": reason}
                continue
            try:
                ready[name], calls[name] = self._prepare(case, variants, name)
            except Exception as error:  # of one variant: the others are measured all the same
                failed[name] = {"error": f"{type(error).__name__}: {error}"}
        seconds = bench.measure(
            {name: prepared.seconds for name, prepared in ready.items()},
            case.rounds,
            warmup=2,
            clock=lambda timed: timed(),
        )
        about = _about(case)
        self.rows += [{**about, "variant": name, **why} for name, why in failed.items()]
        for name, times in seconds.items():
            self.rows.append(
                {
                    **about,
                    "variant": name,
                    "microseconds": 1e6 * bench.median(times),
                    "rounds": case.rounds,
                    "calls": calls[name],
                    "sets": min(variants.sets, calls[name]),
                    "bytes": case.bytes,
                    "gigabytes_per_second": case.bytes / bench.median(times) / 1e9,
                    **_against(name, seconds),
                }
            )

    def _prepare(self, case: Case, variants: Variants, name: str) -> tuple[Prepared, int]:
        sets, kernels = variants.sets, HOOK_KERNELS if name == "hook" else 1
        if name == "copy":
            turn = self._pools[case.dtype].copy(case, sets)
        elif name == "hook":
            turn = variants.hook()
        elif name == "compiled":
            with self.compiling.charged():
                turn = variants.compiled()
                turn[0]()
        elif name == "liger":
            turn = variants.liger()
        else:
            backend, _, components = name.partition("_k")
            turn = variants.emokernel(backend, int(components))
        count = sets if self.smoke else case.calls(sets, kernels)
        calls = [turn[number % sets] for number in range(count)]
        return self.timer.prepare(calls, keep=sets), count

    def host(self) -> None:
        """The host's part of one call at 1 x 4096, in microseconds."""
        calls, rounds = (20, 2) if self.smoke else (2000, 15)
        case = Case(FUSED, 1, 64 if self.smoke else EAGER_D)
        functions = {}
        arguments = self.variants(case, sets=2).arguments(1)[0]
        a, b = arguments[:2]
        functions["torch.add"] = lambda: torch.add(a, b)
        for backend in self.backends:
            functions.update(_host_calls(backend, self.refusals[backend], arguments))
        # Each in a window of its own: the launches of one do not wait for the kernels of another.
        seconds = bench.measure(
            {
                name: lambda call=call: enqueue_seconds(call, self.timer, calls=calls)
                for name, call in functions.items()
            },
            rounds,
            warmup=1,
            clock=lambda timed: timed(),
        )
        for name, times in seconds.items():
            microseconds = 1e6 * bench.median(times)
            row = {"benchmark": HOST, "rows": 1, "d": case.d, "dtype": "bf16", "variant": name}
            self.rows.append({**row, "microseconds": microseconds, "rounds": rounds})

    def eager(self, rows: int) -> None:
        """Calls one by one, as in eager inference: the operation against the plain hook path."""
        calls, rounds = (4, 2) if self.smoke else (50, 15)
        case = Case(FUSED, rows, 64 if self.smoke else EAGER_D)
        variants = self.variants(case, sets=2)
        functions: dict[str, Call] = {"hook": variants.hook()[0]}
        arguments = variants.arguments(1)[0]
        for backend in self.backends:
            if self.refusals[backend] is None:
                operation = load(backend).add_steer_rms_norm
                functions[f"{backend}_k1"] = lambda operation=operation: operation(*arguments)
        seconds = bench.measure(
            {
                name: lambda call=call: eager_seconds(call, self.timer, calls)
                for name, call in functions.items()
            },
            rounds,
            warmup=2,
            clock=lambda timed: timed(),
        )
        for name, times in seconds.items():
            self.rows.append(
                {
                    **_about(case),
                    "benchmark": EAGER,
                    "variant": name,
                    "microseconds": 1e6 * bench.median(times),
                    "rounds": rounds,
                    **_against(name, seconds),
                }
            )


def _about(case: Case) -> dict[str, object]:
    return {
        "benchmark": KERNEL,
        "operation": case.operation,
        "rows": case.rows,
        "d": case.d,
        "dtype": case.dtype,
        "law": case.law,
    }


def _against(name: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    """How many times slower the other variants are, and the microseconds above nothing steered."""
    unsteered = f"{name.partition('_k')[0]}_k0"
    others = [o for o in ("copy", unsteered, *RIVALS) if o in seconds and o != name]
    row: dict[str, object] = {"others_over_this": {}}
    for other in others:
        ratio = bench.compare_to(seconds[name], seconds[other])
        row["others_over_this"][other] = [ratio.ratio, ratio.low, ratio.high]
    if "_k" in name and unsteered in others:
        pairs = zip(seconds[name], seconds[unsteered], strict=True)
        row["above_unsteered_us"] = 1e6 * bench.median([a - b for a, b in pairs])
    return row


def _host_calls(backend: str, refusal: str | None, arguments: tuple) -> dict[str, Call]:
    """The ways to call the operation of a backend that the host pays for."""
    if refusal is not None:
        return {}
    found = load(backend)
    calls: dict[str, Callable] = {f"{backend} backend": found.add_steer_rms_norm}
    if found.namespace is not None:
        operation = getattr(torch.ops, found.namespace).add_steer_rms_norm.default
        calls[HOST_OP.replace("cuda", backend)] = operation
    return {
        name: lambda function=function: function(*arguments) for name, function in calls.items()
    }


def _liger_installed() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


@dataclass(frozen=True)
class Step:
    """One piece of the work; ``instead`` are the rows that say so where it does not run."""

    label: str
    run: Callable[[], None]
    instead: list[dict[str, object]]


def steps(work: Benchmark, todo: Sequence[Case]) -> list[Step]:
    """Every case in its order; calls from the host as soon as the main shapes are through."""
    planned = []
    main = sum(case.rounds == MAIN_ROUNDS for case in todo)
    for number, case in enumerate(todo):
        if number == main:
            planned += _steps_of_host(work)
        instead = [{**_about(case), "variant": name} for name in work.names(case)]
        planned.append(Step(case.label, partial(work.kernel, case), instead))
    return planned


def _steps_of_host(work: Benchmark) -> Iterator[Step]:
    case = Case(FUSED, 1, EAGER_D)
    yield Step("host", work.host, [{**_about(case), "benchmark": HOST, "variant": HOST_OP}])
    for rows in EAGER_ROWS[:1] if work.smoke else EAGER_ROWS:
        about = {**_about(Case(FUSED, rows, EAGER_D)), "benchmark": EAGER}
        instead = [{**about, "variant": name} for name in ("hook", "cuda_k1")]
        yield Step(f"eager {rows} rows", partial(work.eager, rows), instead)


def run(work: Benchmark, todo: Sequence[Case], budget: Budget) -> None:
    """Measures what the budget allows; the rest gets rows that say why there is nothing.

    Those rows are there too if an exception, or a signal that raises one, ends the run early.
    """
    left = steps(work, todo)
    reason: str | None = "the run ended early"
    progress = tqdm(total=len(left), mininterval=2)
    try:
        work.raise_clocks()
        while left:
            reason = budget.refusal()
            if reason is not None:
                break
            reason = "the run ended early"
            step = left[0]
            progress.set_description(step.label)
            try:
                step.run()
            except Exception as error:  # of one shape: the others are measured all the same
                text = f"{type(error).__name__}: {error}"
                work.rows += [{**row, "error": text} for row in step.instead]
            left.pop(0)
            progress.update()
    finally:
        progress.close()
        work.rows += [{**row, "not_run": reason} for step in left for row in step.instead]


def warm(device: torch.device, workers: int, worker: int | None, smoke: bool = False) -> int:
    """Compiles in parallel processes, into the caches on disk, what a run compiles one by one.

    ``worker`` is the number of this process among them, None in the one that starts them. Each is a
    run of this file: what a worker of multiprocessing compiled was not found in the cache again
    (torch 2.13).
    """
    if worker is None:
        command = [sys.executable, *sys.argv, "--workers", str(workers), "--worker"]
        started = [subprocess.Popen([*command, str(number)]) for number in range(workers)]
        return max(process.wait() for process in started)
    tasks = [Case("", 1, d) for d in ((64,) if smoke else D)]
    tasks += [] if smoke else [Case("", 1, EAGER_D, dtype) for dtype in ("fp32", "fp16")]
    tasks += [case for case in cases(smoke) if case.rivals]
    for task in tasks[worker::workers]:
        start = time.monotonic()
        error = _warm(device, task)
        what = task.label if task.operation else f"Triton {task.d} {task.dtype}"
        print(f"{what}: {error or f'{time.monotonic() - start:.1f} s'}", flush=True)
    return 0


def _warm(device: torch.device, case: Case) -> str | None:
    """Runs torch.compile's form of a case once, or, without an operation, Triton's of all."""
    try:
        tables = Tables(case.d, DTYPES[case.dtype], LAWS[case.law], device)
        with torch.no_grad():
            for name in [case.operation] if case.operation else schemas.OPERATIONS:
                one = replace(case, operation=name)
                pool = Pool(Pool.elements([one], 0), DTYPES[case.dtype], device)
                variants = Variants(one, pool, tables, 2)
                calls = variants.compiled() if case.operation else variants.emokernel("triton", 1)
                calls[0]()
        if device.type == "cuda":
            torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, records, draws and prints; 0 if it got that far, whatever became of the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=BACKENDS, default="cuda")
    parser.add_argument("--smoke", action="store_true", help="a few tiny shapes, to try the path")
    parser.add_argument("--budget", type=float, default=150, help="seconds for everything")
    parser.add_argument("--compile-budget", type=float, help="of it for torch.compile (two fifths)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--warm", action="store_true", help="only fill the compilers' caches")
    parser.add_argument("--workers", type=int, default=max(1, min(8, (os.cpu_count() or 2) // 2)))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    budget = Budget(options.budget)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; --device cpu --smoke tries the path without one")
    if options.warm:
        return warm(device, options.workers, options.worker, options.smoke)
    share = 0.4 * options.budget if options.compile_budget is None else options.compile_budget
    todo = cases(options.smoke)
    rows: list[dict[str, object]] = []
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with torch.no_grad():
            work = Benchmark(device, todo, Budget(share, running=False), options.smoke)
            rows = work.rows
            run(work, todo, budget)
    finally:
        signal.signal(signal.SIGTERM, before)
        if rows:
            _record(options.output, rows)
    return 0


def _record(output: Path, rows: list[dict[str, object]]) -> None:
    path = bench.append(output, "gpu", rows)
    print(table(rows), report(rows), sep="\n\n")
    pictures = plot_kernels(path)
    print(f"\nappended {len(rows)} rows to {path}; plots: {', '.join(map(str, pictures))}")


def table(rows: Sequence[dict[str, object]]) -> str:
    """The figures of add_steer_rms_norm in bf16 and of the host, and what was not measured."""
    lines = []
    for row in rows:
        if row["benchmark"] == HOST and "microseconds" in row:
            lines.append(f"host   {row['variant']:<28} {row['microseconds']:8.2f} us")
        elif row["benchmark"] == EAGER and "microseconds" in row:
            at = f"{row['rows']} x {row['d']}"
            lines.append(f"eager  {at:<12} {row['variant']:<15} {row['microseconds']:8.2f} us")
        elif row["benchmark"] == KERNEL and "microseconds" in row and _shown(row):
            at = f"{row['rows']} x {row['d']}"
            of_copy = row["others_over_this"].get("copy", [1.0])[0]
            lines.append(
                f"graph  {at:<12} {row['variant']:<15} {row['microseconds']:8.2f} us"
                f" {row['gigabytes_per_second']:8.1f} GB/s {100 * of_copy:6.1f} % of copy"
            )
    for what in ("not_run", "error"):
        reasons = Counter(str(row[what]).splitlines()[0] for row in rows if what in row)
        lines += [f"{what}: {count} rows: {why[:160]}" for why, count in reasons.items()]
    return "\n".join(lines)


def _shown(row: dict[str, object]) -> bool:
    return (row["operation"], row["dtype"], row["law"]) == (FUSED, "bf16", "preserve") and row[
        "d"
    ] in (*MAIN_D, 64)


if __name__ == "__main__":
    sys.exit(main())
