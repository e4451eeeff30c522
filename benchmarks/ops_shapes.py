"""How fast is a row operation at every shape, by every instruction set, against a copy?

    python benchmarks/ops_shapes.py [--quick] [--plans wide forms ...] [--rows N ...] [--d N ...]
                                [--dtypes fp32 bf16 fp16] [--isa avx2 avx512 ...] [--seconds S]

Shapes from 1 x 576 to 8192 x 16384 (below a gigabyte), odd widths among them. A *cell* is one form
at one shape: a copy of the bytes that the form reads and writes, into memory that is there, and the
form with no row steered and with mixes of 1 and 8 vectors, of all instruction sets and numbers of
threads in the same rounds. Plans:

    wide      the norm of Llama's kin, all shapes, as many threads as there are cores
    single    the same by one thread, of fewer shapes
    forms     with LayerNorm, in place behind an engine's own norm, and without a norm
    prompt    one slot for all rows, as in a prompt
    threads   where a second thread starts to pay: one and two, 1024 to 131072 elements
    portable  the kernels that run everywhere

Everywhere else each row has another slot than its neighbours. The form without a norm makes its
result anew in every call, so it is compared with torch.add, which moves the same bytes and does so
too. In place, rows that nobody steers are left alone, and nothing is told of them. Small shapes
stay in the caches, and what they take is the call. Writes JSON lines and a picture to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from row_problem import (
    ADD,
    DTYPES,
    FORMS,
    IN_PLACE,
    LAYER_NORM,
    RESULTS,
    RMS_NORM,
    Pool,
    Problem,
    isas,
    repeats_for,
    timed,
)
from tqdm import tqdm

from emokernel import bench
from emokernel.bench.harness import interleaved
from emokernel.extras import need

ROWS = (1, 8, 64, 512, 2048, 8192)
WIDTHS = (576, 577, 1000, 1024, 2048, 4096, 8192, 16384)
MIXES = {"none": 0, "k1": 1, "k8": 8}
COPY = "copy"
MOST_BYTES = 1 << 30  # that a call reads and writes
READING = 4e-4  # seconds, about
FEWEST, MOST = 5, 60  # rounds
CORES = len(os.sched_getaffinity(0))
# Below this many elements a call is never shared among threads.
GRAIN = 16384
Key = tuple[str, str | None, int]  # variant, ISA (None for the copy), threads


@dataclass(frozen=True)
class Cell:
    """One form at one shape, and what is measured of it in the same rounds."""

    plan: str
    form: str
    rows: int
    d: int
    dtype: str
    isas: tuple[str, ...]
    threads: tuple[int, ...]
    one_slot: bool = False

    @property
    def bytes(self) -> int:
        """Read and written by one call."""
        return FORMS[self.form] * self.rows * self.d * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        return f"{self.plan}: {self.form} {self.rows} x {self.d} {self.dtype}"


@dataclass(frozen=True)
class Wanted:
    """What the cells are made of."""

    rows: tuple[int, ...] = ROWS
    widths: tuple[int, ...] = WIDTHS
    dtypes: tuple[str, ...] = tuple(DTYPES)
    isas: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The instruction sets that are measured: all but the portable one, if there are any."""
        return self.isas or tuple(isas()[1:]) or tuple(isas())

    def cells(
        self,
        plan: str,
        *,
        forms: Iterable[str] = (RMS_NORM,),
        rows: Iterable[int] = ROWS,
        widths: Iterable[int] = WIDTHS,
        threads: tuple[int, ...] = (CORES,),
        levels: tuple[str, ...] = (),
        one_slot: bool = False,
    ) -> Iterator[Cell]:
        """Every combination that is wanted and not too large."""
        wide = [d for d in widths if d in self.widths]
        many = [count for count in rows if count in self.rows]
        for form, dtype, d, count in product(forms, self.dtypes, wide, many):
            cell = Cell(plan, form, count, d, dtype, levels or self.levels, threads, one_slot)
            if cell.bytes < MOST_BYTES:
                yield cell


def wide(wanted: Wanted) -> Iterator[Cell]:
    yield from wanted.cells("wide", rows=wanted.rows, widths=wanted.widths)


def single(wanted: Wanted) -> Iterator[Cell]:
    for cell in wanted.cells(
        "single", rows=(64, 512, 2048), widths=(576, 1000, 4096, 16384), threads=(1,)
    ):
        if cell.rows * cell.d > GRAIN:  # else it is the same as by several
            yield cell


def forms(wanted: Wanted) -> Iterator[Cell]:
    others = (LAYER_NORM, IN_PLACE, ADD)
    yield from wanted.cells("forms", forms=others, rows=(1, 64, 2048), widths=(576, 1000, 4096))


def prompt(wanted: Wanted) -> Iterator[Cell]:
    yield from wanted.cells("prompt", rows=(64, 512, 2048), widths=(576, 4096), one_slot=True)


def threads(wanted: Wanted) -> Iterator[Cell]:
    every = Wanted(tuple(2**n for n in range(8)), (1024,), wanted.dtypes)
    for form in (RMS_NORM, IN_PLACE):
        for cell in every.cells(
            "threads", forms=(form,), rows=every.rows, threads=(1, 2), levels=(isas()[-1],)
        ):
            if cell.dtype != "fp16":
                yield cell


def portable(wanted: Wanted) -> Iterator[Cell]:
    yield from wanted.cells("portable", rows=(512,), widths=(576, 4096), levels=(isas()[0],))


PLANS = {plan.__name__: plan for plan in (wide, single, forms, prompt, threads, portable)}


def readings(cell: Cell, pool: Pool) -> dict[Key, Callable[[], float]]:
    """What times each variant of a cell, as many calls at once as a reading takes."""
    problem = Problem(cell.rows, cell.d, DTYPES[cell.dtype], pool, one_slot=cell.one_slot)
    calls = {mix: problem.call(count, cell.form) for mix, count in MIXES.items()}
    found: dict[Key, Callable[[], float]] = {}
    for count in cell.threads:
        copy = problem.plain_add if cell.form == ADD else problem.copy(cell.form)
        variants = {(COPY, None): copy} | {
            (mix, isa): call for isa in cell.isas for mix, call in calls.items()
        }
        for (name, isa), call in variants.items():
            repeats = repeats_for(READING, timed(call, isa=isa, threads=count))
            found[name, isa, count] = timed(call, repeats, isa=isa, threads=count)
    return found


def measured(cell: Cell, pool: Pool, seconds: float) -> dict[Key, list[float]]:
    """Seconds of a call, round by round, for about ``seconds`` in all."""
    times: dict[Key, list[float]] = {}
    end = time.perf_counter() + seconds
    timing = interleaved(readings(cell, pool), MOST, warmup=1, clock=lambda read: read())
    for number, read in enumerate(timing, start=1):
        for key, value in read.items():
            times.setdefault(key, []).append(value)
        if number >= FEWEST and time.perf_counter() > end:
            break
    timing.close()
    return times


def rows_of(cell: Cell, times: dict[Key, list[float]]) -> Iterator[dict[str, object]]:
    """A row of results for each instruction set and number of threads.

    Ratios are ``[median, low, high]`` with the interval of `bench.compare_to`: "of_copy" how many
    times as fast as the copy (of `ADD`: as torch.add), "over_unsteered" and "over_one_thread" times
    as long as that.
    """
    told = [mix for mix in MIXES if (cell.form, mix) != (IN_PLACE, "none")]
    for isa, count in product(cell.isas, cell.threads):
        own = {mix: times[mix, isa, count] for mix in MIXES}
        copy = times[COPY, None, count]
        row: dict[str, object] = {
            "plan": cell.plan,
            "form": cell.form,
            "rows": cell.rows,
            "d": cell.d,
            "dtype": cell.dtype,
            "isa": isa,
            "threads": count,
            "one_slot": cell.one_slot,
            "rounds": len(copy),
            "microseconds": {
                name: float(f"{1e6 * bench.median(each):.4g}")
                for name, each in ({COPY: copy} | own).items()
            },
            "of_copy": {mix: _ratio(own[mix], copy) for mix in told},
        }
        if cell.form != IN_PLACE:
            row["over_unsteered"] = {mix: _ratio(own["none"], own[mix]) for mix in ("k1", "k8")}
        if count > 1 and 1 in cell.threads:
            row["over_one_thread"] = {mix: _ratio(times[mix, isa, 1], own[mix]) for mix in told}
        yield row


def _ratio(baseline: Sequence[float], times: Sequence[float]) -> list[float]:
    found = bench.compare_to(baseline, times)
    return [round(value, 4) for value in (found.ratio, found.low, found.high)]


def report(rows: Sequence[dict]) -> str:
    """A line for each row of results."""
    lines = ["plan     form                       rows x d     dtype isa        threads    K=1 us"]
    lines[0] += "  % of copy: none   K=1   K=8   K=1 and 8 over unsteered"
    for row in rows:
        ratios = (row["of_copy"].get(mix) for mix in MIXES)
        shares = "".join(f"{100 * ratio[0]:6.0f}" if ratio else f"{'':>6}" for ratio in ratios)
        over = "".join(f"{ratio[0]:7.3f}" for ratio in row.get("over_unsteered", {}).values())
        ones = row.get("over_one_thread", {}).get("k1")
        lines.append(
            f"{row['plan']:<8} {row['form']:<24} {row['rows']:>6} x {row['d']:<6} {row['dtype']:<5}"
            f" {row['isa']:<10} {row['threads']:>4} {row['microseconds']['k1']:>12.1f}"
            f"          {shares} {over}" + (f"  {ones[0]:.3f} x one thread" if ones else "")
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, record and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few shapes, no record")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--d", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--isa", nargs="+", choices=isas(), default=(), help="all but portable")
    parser.add_argument("--seconds", type=float, default=0.25, help="of one cell, about")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    need("matplotlib")  # before anything is measured
    wanted = Wanted(tuple(options.rows), tuple(options.d), tuple(options.dtypes), (*options.isa,))
    if options.quick:
        wanted = Wanted((1, 64, 2048), (577, 4096), ("fp32", "bf16"), wanted.isas)
    cells = [cell for plan in options.plans for cell in PLANS[plan](wanted)]
    results: list[dict] = []
    with torch.no_grad():
        for dtype in dict.fromkeys(cell.dtype for cell in cells):  # a pool each, one at a time
            own = [cell for cell in cells if cell.dtype == dtype]
            pool = Pool(DTYPES[dtype], max(cell.rows * cell.d for cell in own))
            for cell in (bar := tqdm(own, leave=False)):
                bar.set_description(str(cell))
                results += rows_of(cell, measured(cell, pool, options.seconds))
            del pool
    torch.set_num_threads(CORES)  # as it is recorded for the machine
    print(report(results))
    if not options.quick:
        from ops_shapes_plot import plot_shapes

        path = bench.append(options.output, "shapes", results)
        print(f"\nappended to {path}; plot: {plot_shapes(path)}")


if __name__ == "__main__":
    main()
