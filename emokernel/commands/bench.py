"""`emokernel bench`: what steering costs, on your own model, vectors and machine."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emokernel.commands.arguments import add_model, positive
from emokernel.commands.bench_model import add_vectors, given_vectors, load_checked, vectors_of
from emokernel.commands.models import EMBEDDED, check_can_steer, check_fits, load_config
from emokernel.commands.outputs import check_folder
from emokernel.errors import EmokernelError
from emokernel.extras import need

if TYPE_CHECKING:
    from emokernel.bench.benchmark import BenchOptions, MeasuredCase
    from emokernel.bench.variants import Variant

QUESTION = "bench"
_QUICK = {"batch_sizes": [1, 4], "rounds": 20, "new_tokens": 12}
_FULL = {"batch_sizes": [1, 4, 16], "rounds": 30, "new_tokens": 32}


def add(commands: Any) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "bench", help="what steering costs on your model and machine, against hooks and nothing"
    )
    add_model(parser, default=EMBEDDED)
    add_vectors(parser)
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME",
        help="what to compare, beside the baselines (all; compiled ones not with --quick)",
    )  # fmt: skip
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", metavar="N",
        help="sequences at a time (1 4 16; quick: 1 4)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=positive, nargs="+", default=[64], metavar="N",
        help="tokens of a prompt (64)",
    )  # fmt: skip
    parser.add_argument(
        "--new-tokens", type=positive, metavar="N", help="tokens to generate (32; quick: 12)"
    )
    parser.add_argument(
        "--steered", type=_share, nargs="+", default=[1.0], metavar="SHARE",
        help="share of a batch that is steered, 0 to 1 (1)",
    )  # fmt: skip
    parser.add_argument(
        "--mixes", nargs="+", default=["one"], choices=("one", "different", "blends"),
        help="the same emotion for all sequences, a different one for each, or a different mix of"
        " three for each (one)",
    )  # fmt: skip
    parser.add_argument("--slots", type=positive, default=256, help="different mixes at once (256)")
    parser.add_argument("--rounds", type=positive, help="measurements of each (30; quick: 20)")
    parser.add_argument(
        "--quick", action="store_true", help="a short form, without what torch.compile compiles"
    )
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
    from tqdm import tqdm

    from emokernel.bench import append, machine, now, versions
    from emokernel.bench.benchmark import bench, check, check_options, failed
    from emokernel.bench.cases import cases
    from emokernel.bench.compiling import check_backend
    from emokernel.bench.table import table

    need("matplotlib")
    for name, value in (_QUICK if chosen.quick else _FULL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    options = _options(chosen)
    check_backend(chosen.compile_backend)
    check_folder(chosen.output)
    wanted = list(cases(chosen.batch_sizes, chosen.context, chosen.steered, chosen.mixes))
    if not wanted:
        raise EmokernelError(
            f"no batch of {chosen.batch_sizes} sequences has a share of {chosen.steered}: choose"
            " other --batch-sizes or --steered"
        )
    given = given_vectors(chosen)
    check_options(wanted, options)
    if given is not None:
        check(wanted, given, options)
        check_fits(given, load_config(chosen), chosen.vectors)
    check_can_steer(chosen.device_map)
    model, _ = load_checked(chosen)
    vectors, origin = vectors_of(chosen, given, model)
    check(wanted, vectors, options)
    chosen.output.mkdir(parents=True, exist_ok=True)
    dtype = str(model.dtype).removeprefix("torch.")
    about = {"model": chosen.model, "dtype": dtype, "device": str(model.device)}
    print(_heading(about, origin, machine(), versions()), _left_out(chosen), sep="\n")
    began, done, path = now(), [], None

    def progress(rounds: Any, what: str) -> Any:
        return tqdm(rounds, desc=what, leave=False)

    try:
        for measured in bench(model, vectors, wanted, options, progress):
            done.append(measured)
            rows = [about | {"vectors": origin} | row for row in measured.rows]
            path = append(chosen.output, QUESTION, rows, began)
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


def _options(chosen: argparse.Namespace) -> BenchOptions:
    from emokernel.bench.benchmark import BenchOptions
    from emokernel.bench.variants import CHOICES, COMPILED, VARIANTS, with_baselines

    names = chosen.variants or [
        name for name in CHOICES if not (chosen.quick and VARIANTS[name].mode == COMPILED)
    ]
    variants: list[Variant] = with_baselines(names)
    return BenchOptions(
        tuple(variants), chosen.new_tokens, chosen.rounds, chosen.slots, chosen.compile_backend,
        frozenset(chosen.variants or ()),
    )  # fmt: skip


def _heading(about: dict, vectors: str, machine: dict, versions: dict) -> str:
    return (
        f"{about['model']}, {about['dtype']} on {about['device']};"
        f" vectors: {vectors}\n"
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']}"
        f" threads; torch {versions['torch']}, transformers {versions['transformers']}\n"
        "times in ms; ratios with their 95 % interval, paired by round, and only where it lies"
        " outside of the noise"
    )


def _left_out(chosen: argparse.Namespace) -> str:
    from emokernel.bench.cases import is_whole

    lines = []
    if chosen.quick and chosen.variants is None:
        lines.append(
            "left out by --quick: what torch.compile makes faster, since compiling alone takes up"
            " to a minute (name it with --variants)"
        )
    shares = [(share, batch) for share in chosen.steered for batch in chosen.batch_sizes]
    if not all(is_whole(share, batch) for share, batch in shares):
        lines.append("left out: shares that are no whole number of sequences")
    return "\n".join([*lines, ""])


def _draw(folder: Path, about: dict, done: list[MeasuredCase]) -> list[Path]:
    """A picture for each case with figures, and one by batch size for each kind of case."""
    from emokernel.bench import decode_plot, machine_slug

    pictures = []
    name = Path(about["model"]).name
    slug = re.sub(r"[^a-z0-9]+", "-", f"{name}-{about['dtype']}".lower()).strip("-")
    title = f"{name}, {about['dtype']}, {machine_slug()}"
    for measured in done:
        times = {
            name: [1e3 * timing.step for timing in timings]
            for name, timings in measured.timings.items()
        }
        if times:
            case = measured.case
            path = folder / f"{slug}-b{case.batch}-c{case.context}-s{case.steered}-{case.mixes}.png"
            decode_plot.latency(path, times, f"{title}\n{case}")
            pictures.append(path)
    kinds: dict[tuple, list] = {}
    for measured in done:
        case = measured.case
        kinds.setdefault((case.context, case.share, case.mixes), []).append(measured)
    for (context, share, mixes), alike in kinds.items():
        rows = [row for measured in alike for row in measured.rows]
        if len({row["batch"] for row in rows if "token_ms" in row}) > 1:
            path = folder / f"{slug}-c{context}-{share:g}-{mixes}-by-batch.png"
            decode_plot.by_batch(
                path, rows, f"{title}, context {context}, {share:.0%} steered ({mixes})"
            )
            pictures.append(path)
    return pictures
