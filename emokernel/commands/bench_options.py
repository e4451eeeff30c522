"""The options of `emokernel bench`, and what is measured by them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from emokernel.bench.cases import ALL, MIXES, Sweep, numbers_of, sweep
from emokernel.bench.prepared import BenchOptions
from emokernel.bench.variants import CHOICES, COMPILED, VARIANTS, compared, with_baselines
from emokernel.choices import SITE
from emokernel.commands.arguments import add_measured, positive
from emokernel.errors import EmokernelError

_QUICK = {"batch_sizes": [1, 4], "rounds": 20, "new_tokens": 12, "minutes": 2.0}
_FULL = {"batch_sizes": [1, 4, 16], "rounds": 30, "new_tokens": 32, "minutes": math.inf}
# Of a measurement that times; empty unless they are given.
_OF_TIMES = (
    "variants", "compare", "batch_sizes", "new_tokens", "rounds", "precision", "minutes", "quick",
    "resume",
)  # fmt: skip


def add_all(parser: argparse.ArgumentParser) -> None:
    """Those of measuring; what is shown of them is not ours."""
    add_measured(parser, optional=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--variants", nargs="+", metavar="NAME",
        help="what to compare, beside the baselines (all; compiled ones and law add not with"
        " --quick)",
    )  # fmt: skip
    which.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help="two variants alone: B against A, beside the noise of A",
    )  # fmt: skip
    parser.add_argument(
        "--batch-sizes", type=positive, nargs="+", metavar="N",
        help="sequences at a time (1 4 16; quick: 1 4)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=positive, nargs="+", default=[64], help="prompt tokens (64)"
    )
    parser.add_argument(
        "--new-tokens", type=positive,
        help="tokens to generate (32; quick: 12; fewer where time is short)",
    )  # fmt: skip
    parser.add_argument(
        "--steered", type=_share, nargs="+", default=[1.0], metavar="SHARE",
        help="share of a batch that is steered, 0 to 1, rounded to whole sequences (1)",
    )  # fmt: skip
    parser.add_argument(
        "--mixes", type=_mixes, nargs="+", default=["one"], metavar="N",
        help="how many different mixes, or: one; different, another for each sequence; blends,"
        " another of three vectors for each (one)",
    )  # fmt: skip
    parser.add_argument(
        "--components", type=positive, nargs="+", default=[1], metavar="K",
        help="vectors a mix, 1 to 8 (1)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", type=_layers, nargs="+", default=[ALL], metavar="LAYERS",
        help="steered layers, each of all, 15, 8-15 or 8-15,20 (all that the vectors have)",
    )  # fmt: skip
    parser.add_argument(
        "--site", choices=SITE, default="block",
        help="where emokernel steers (block, where plain hooks do the same work)",
    )  # fmt: skip
    parser.add_argument("--slots", type=positive, default=256, help="different mixes at once (256)")
    parser.add_argument(
        "--rounds", type=positive, help="measurements of each (30; quick: 20; fewer in short time)"
    )
    parser.add_argument(
        "--precision", type=_precision, metavar="P",
        help="add rounds until the 95 %% interval of each ratio is at most P wide to either side,"
        " such as 0.02",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=_minutes,
        help="all that the command may take, from its start to its end (no limit; quick: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="two minutes at most, without what is compiled"
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="go on with the last run of the same settings, model, vectors, versions and machine",
    )  # fmt: skip
    parser.add_argument(
        "--numerics", action="store_true",
        help="instead of times: errors against fp64, beside other projects' formulas",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("emokernel-bench"),
        help="folder for results (appended) and pictures (emokernel-bench)",
    )  # fmt: skip


def refuse_timing(chosen: argparse.Namespace) -> None:
    """EmokernelError if anything was asked of a measurement that times nothing."""
    given = [name for name in _OF_TIMES if getattr(chosen, name)]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise EmokernelError(f"--numerics times nothing: leave out {options}")


def settle(chosen: argparse.Namespace) -> str | None:
    """Fill in what was left open; what is left out for it, for people."""
    named = chosen.variants is not None or chosen.compare is not None
    for name, value in (_QUICK if chosen.quick else _FULL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    if named:
        return None
    chosen.variants = [name for name in CHOICES if not (chosen.quick and _is_slow(name))]
    left_out = []
    if chosen.quick:
        left_out.append(
            "left out by --quick: what torch.compile makes faster, since compiling alone takes up"
            " to a minute, and law add (name them with --variants)"
        )
    if chosen.site != "block":
        chosen.variants = [name for name in chosen.variants if not VARIANTS[name].is_hooked]
        left_out.append(
            f"left out at site {chosen.site}: plain hooks, which cannot do the same work there"
        )
    return "\n".join(left_out) or None


def options_of(chosen: argparse.Namespace, asked: frozenset[str]) -> BenchOptions:
    """How to measure; ``asked``: the variants that were named."""
    if chosen.compare is not None:
        variants = compared(*chosen.compare)
    else:
        variants = with_baselines(chosen.variants)
    return BenchOptions(
        tuple(variants), chosen.new_tokens, chosen.rounds, chosen.slots, chosen.compile_backend,
        asked, chosen.precision, chosen.site,
    )  # fmt: skip


def sweep_of(chosen: argparse.Namespace) -> Sweep:
    """The cases; EmokernelError if none of them can be."""
    found = sweep(
        chosen.batch_sizes, chosen.context, chosen.steered, chosen.mixes, chosen.components,
        chosen.layers,
    )  # fmt: skip
    if not found.cases:
        raise EmokernelError(
            f"{found.left_out[0]}: more different mixes than steered sequences, as in every case:"
            " use a larger --batch-sizes or --steered, or fewer --mixes"
        )
    return found


def _is_slow(name: str) -> bool:
    return VARIANTS[name].mode == COMPILED or VARIANTS[name].law == "add"


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return share


def _mixes(text: str) -> str | int:
    if text in MIXES:
        return text
    try:
        return positive(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number or one of {', '.join(MIXES)}, got {text!r}"
        ) from None


def _layers(text: str) -> str:
    if text != ALL:
        try:
            numbers_of(text)
        except EmokernelError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _precision(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return value
