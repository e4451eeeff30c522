"""`emokernel bench`: what steering costs on your model and machine, against hooks and nothing."""

from __future__ import annotations

import argparse
import sys
import time

from emokernel.bench import append, now
from emokernel.bench.benchmark import BenchOptions, bench, check, failed
from emokernel.bench.box import Box, process_began
from emokernel.bench.cases import Case
from emokernel.bench.compiling import check_backend
from emokernel.bench.results import Row
from emokernel.bench.resuming import Begun, begun, rows_missing, settings_of
from emokernel.bench.summary import missed, table
from emokernel.commands import bench_options, models
from emokernel.commands.bench_numerics import run_numerics
from emokernel.commands.bench_pictures import Gallery, heading
from emokernel.commands.outputs import check_folder
from emokernel.extras import need

_QUESTION = "bench"


def add(parser: argparse.ArgumentParser) -> None:
    bench_options.add_all(parser)


def run(chosen: argparse.Namespace) -> int:
    """Measure, print, record and draw; 1 if a variant failed for an unforeseen reason."""
    began = process_began() if chosen.own_process else time.monotonic()
    need("matplotlib")
    if chosen.numerics:
        bench_options.refuse_timing(chosen)
        return run_numerics(chosen)
    asked = frozenset(chosen.compare or chosen.variants or ())
    left_out = bench_options.settle(chosen)
    options, wanted = bench_options.options_of(chosen, asked), bench_options.sweep_of(chosen)
    check_backend(chosen.compile_backend)
    check_folder(chosen.output)
    given = models.given_vectors(chosen)
    check(wanted.cases, options, given)
    if given is not None:
        models.check_fits(given, models.load_config(chosen), chosen.vectors)
    models.check_can_steer(chosen.device_map)
    model, _ = models.load_to_measure(chosen)
    emotions = max(4, *(case.components for case in wanted.cases))
    vectors, origin = models.vectors_of(chosen, given, model, emotions)
    check(wanted.cases, options, vectors)
    cases = list(dict.fromkeys(case.located(vectors) for case in wanted.cases))
    settings = settings_of(model, vectors, options)
    earlier = begun(chosen.output, _QUESTION, settings) if chosen.resume else None
    chosen.output.mkdir(parents=True, exist_ok=True)
    dtype = str(model.dtype).removeprefix("torch.")
    about = {"model": chosen.model, "dtype": dtype, "device": str(model.device)}
    print(heading(about, origin, options))
    print(*filter(None, [left_out]), *map(_impossible, wanted.left_out), sep="\n", flush=True)
    print()
    gallery = Gallery(chosen.output, about, cases)
    box = Box(60 * chosen.minutes, began=began)
    if box.is_bounded:
        box.reserve = gallery.seconds()
    done = _told_again(earlier, cases) if chosen.resume else {}
    date, path = earlier.date if earlier else now(), None
    new = rows_missing(earlier, cases)
    try:
        for measured in bench(model, vectors, new, options, box) if new else ():
            rows = [
                about | {"vectors": origin} | row
                | {"finished": measured.finished, "settings": settings}
                for row in measured.rows
            ]  # fmt: skip
            path = append(chosen.output, _QUESTION, rows, date)
            more = "with more rounds, " if measured.case in done else ""
            done[measured.case] = measured.rows
            print(more + table(measured.case, measured.rows), end="\n\n", flush=True)
    except KeyboardInterrupt:
        kept = "nothing was measured yet"
        if path and any("rounds" in row for rows in done.values() for row in rows):
            kept = f"what was measured until then is in {path}; --resume goes on with it"
        print(f"\ninterrupted; {kept}", file=sys.stderr)
        raise SystemExit(130) from None
    if told := _ending(done, options, box, chosen.minutes):
        print(*told, sep="\n", end="\n\n")
    pictures = gallery.draw(done)
    written = [str(path or "nothing new"), *(picture.name for picture in pictures)]
    print(f"Wrote {', '.join(written)}")
    return int(any(failed(rows) for rows in done.values()))


def _impossible(case: Case) -> str:
    return f"left out: {case}: more different mixes than steered sequences"


def _told_again(earlier: Begun | None, cases: list[Case]) -> dict[Case, list[Row]]:
    """The rows of those cases that an earlier run finished, printed."""
    if earlier is None:
        print("nothing to resume: a new run", end="\n\n")
        return {}
    found = {case: earlier.cases[case] for case in cases if case in earlier.cases}
    for case, rows in found.items():
        print(f"from the run of {earlier.date}, {table(case, rows)}", end="\n\n", flush=True)
    return found


def _ending(
    done: dict[Case, list[Row]], options: BenchOptions, box: Box, minutes: float
) -> list[str]:
    """What did not become of it, and why."""
    told = []
    unbegun = [case for case, rows in done.items() if _is_unbegun(rows)]
    if box.is_bounded and unbegun:
        told.append(f"not begun within {minutes:g} minutes: {'; '.join(map(str, unbegun))}")
    if options.precision is not None:
        told += missed(done, options.precision)
    return told


def _is_unbegun(rows: list[Row]) -> bool:
    return all(str(row.get("not_run", "")).startswith("not begun") for row in rows)
