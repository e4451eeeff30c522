"""`emokernel bench`: what steering costs on your model and machine, against hooks and nothing."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from emokernel.bench import append, machine, machine_slug, now, versions
from emokernel.bench.benchmark import BenchOptions, MeasuredCase, bench, check, failed
from emokernel.bench.cases import CHOICES, COMPILED, MIXES, VARIANTS, cases, with_baselines
from emokernel.bench.compiling import check_backend
from emokernel.bench.summary import latency, table
from emokernel.commands import models
from emokernel.commands.arguments import add_measured, positive
from emokernel.commands.bench_numerics import run_numerics
from emokernel.commands.outputs import check_folder
from emokernel.extras import need

_QUICK = {"batch_sizes": [1, 4], "rounds": 20, "new_tokens": 12}
_FULL = {"batch_sizes": [1, 4, 16], "rounds": 30, "new_tokens": 32}


def add(parser: argparse.ArgumentParser) -> None:
    add_measured(parser, optional=True)
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME",
        help="what to compare, beside the baselines (all; compiled ones not with --quick)",
    )  # fmt: skip
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", metavar="N",
        help="sequences at a time (1 4 16; quick: 1 4)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=positive, nargs="+", default=[64], help="prompt tokens (64)"
    )
    parser.add_argument("--new-tokens", type=positive, help="tokens to generate (32; quick: 12)")
    parser.add_argument(
        "--steered", type=_share, nargs="+", default=[1.0], metavar="SHARE",
        help="share of a batch that is steered, 0 to 1, rounded to whole sequences (1)",
    )  # fmt: skip
    parser.add_argument(
        "--mixes", nargs="+", default=["one"], choices=MIXES,
        help="the same emotion for all sequences, a different one for each, or a different mix of"
        " three for each (one)",
    )  # fmt: skip
    parser.add_argument("--slots", type=positive, default=256, help="different mixes at once (256)")
    parser.add_argument("--rounds", type=positive, help="measurements of each (30; quick: 20)")
    parser.add_argument("--quick", action="store_true", help="short, without what is compiled")
    parser.add_argument(
        "--numerics", action="store_true",
        help="instead of times: errors against fp64, beside other projects' formulas",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("emokernel-bench"),
        help="folder for results (appended) and pictures (emokernel-bench)",
    )  # fmt: skip


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return share


def run(chosen: argparse.Namespace) -> int:
    """Measure, print, record and draw; 1 if a variant failed for an unforeseen reason."""
    need("matplotlib")
    if chosen.numerics:
        return run_numerics(chosen)
    for name, value in (_QUICK if chosen.quick else _FULL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    names = chosen.variants or [
        name for name in CHOICES if not (chosen.quick and VARIANTS[name].mode == COMPILED)
    ]
    options = BenchOptions(
        tuple(with_baselines(names)), chosen.new_tokens, chosen.rounds, chosen.slots,
        chosen.compile_backend, frozenset(chosen.variants or ()),
    )  # fmt: skip
    check_backend(chosen.compile_backend)
    check_folder(chosen.output)
    wanted = cases(chosen.batch_sizes, chosen.context, chosen.steered, chosen.mixes)
    given = models.given_vectors(chosen)
    check(wanted, options, given)
    if given is not None:
        models.check_fits(given, models.load_config(chosen), chosen.vectors)
    models.check_can_steer(chosen.device_map)
    model, _ = models.load_to_measure(chosen)
    vectors, origin = models.vectors_of(chosen, given, model)
    chosen.output.mkdir(parents=True, exist_ok=True)
    dtype = str(model.dtype).removeprefix("torch.")
    about = {"model": chosen.model, "dtype": dtype, "device": str(model.device)}
    print(_heading(about, origin))
    if chosen.quick and chosen.variants is None:
        print(
            "left out by --quick: what torch.compile makes faster, since compiling alone takes up"
            " to a minute (name it with --variants)"
        )
    print()
    began, done, path = now(), [], None
    try:
        for measured in bench(model, vectors, wanted, options):
            done.append(measured)
            rows = [about | {"vectors": origin} | row for row in measured.rows]
            path = append(chosen.output, "bench", rows, began)
            print(table(measured.case, measured.rows), end="\n\n", flush=True)
    except KeyboardInterrupt:
        kept = "nothing was measured yet"
        if any(measured.timings for measured in done):
            kept = f"what was measured until then is in {path}"
        print(f"\ninterrupted; {kept}", file=sys.stderr)
        raise SystemExit(130) from None
    pictures = _draw(chosen.output, about, done)
    print(f"Wrote {path}" + "".join(f", {picture.name}" for picture in pictures))
    return int(any(failed(measured.rows) for measured in done))


def _heading(about: dict, vectors: str) -> str:
    on, of = machine(), versions()
    return (
        f"{about['model']}, {about['dtype']} on {about['device']}; vectors: {vectors}\n"
        f"{on['gpu'] or on['cpu']}, {on['cores']} cores, {on['threads']} threads;"
        f" torch {of['torch']}, transformers {of['transformers']}\n"
        "times in ms; ratios with their 95 % interval, paired by round, and only where it lies"
        " outside of the noise"
    )


def _draw(folder: Path, about: dict, done: Sequence[MeasuredCase]) -> list[Path]:
    pictures = []
    name = Path(about["model"]).name
    slug = re.sub(r"[^a-z0-9]+", "-", f"{name}-{about['dtype']}".lower()).strip("-")
    for measured in done:
        if measured.timings:
            case = measured.case
            path = folder / f"{slug}-b{case.batch}-c{case.context}-s{case.steered}-{case.mixes}.png"
            title = f"{name}, {about['dtype']}, {machine_slug()}\n{case}"
            latency(path, measured.rows, title)
            pictures.append(path)
    return pictures
