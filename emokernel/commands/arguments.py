"""What several commands take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emokernel.errors import EmokernelError

if TYPE_CHECKING:
    from emokernel.affect import Coordinates
    from emokernel.lab.measure.classifiers import TextClassifier


def positive(text: str) -> int:
    """A whole number of at least 1; argparse tells what is wrong otherwise."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


@contextmanager
def resumable(partial: Path) -> Iterator[None]:
    """A run that keeps what it did in ``partial``; interrupted, it says so and exits with 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the same command goes on with {partial}, unless it says --restart",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


def add_model(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """MODEL, which can be left out if there is a default, and how it is loaded."""
    left_out = {} if default is None else {"nargs": "?", "default": default}
    parser.add_argument(
        "model",
        help='a folder, a repository id of the Hub, or "embedded" for the model of the demo',
        **left_out,
    )
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"),
        help="of the weights (auto: as they are stored)",
    )  # fmt: skip
    parser.add_argument(
        "--device-map",
        help='"auto", "cpu", "cuda:0", ...: where the layers go, with accelerate (the first GPU if'
        " there is one, else the CPU)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """--label EMOTION=LABEL, of a judge."""
    parser.add_argument(
        "--label", action="append", default=[], metavar="EMOTION=LABEL[,LABEL]",
        help="what the judge calls an emotion, where the names differ",
    )  # fmt: skip


def labels_of(chosen: argparse.Namespace) -> dict[str, list[str]]:
    """{emotion: labels} of `add_labels`'s argument; EmokernelError for what is none."""
    given = assignments(chosen.label, "--label", "EMOTION=LABEL")
    return {emotion: labels.split(",") for emotion, labels in given}


def assignments(given: Iterable[str], option: str, form: str) -> Iterator[tuple[str, str]]:
    """(name, value) of each "name=value"; EmokernelError for what is none, with the ``form``."""
    for each in given:
        name, separator, value = each.partition("=")
        if not (name and separator and value):
            raise EmokernelError(f"{option} needs {form}, got {each!r}")
        yield name, value


def load_judge(name: str, renamed: Iterable[str] = (), option: str = "") -> TextClassifier:
    """A classifier by name, some labels renamed by ``option``; EmokernelError if that fails."""
    from emokernel.lab.judges import load_classifier

    labels = dict(assignments(renamed, option, "LABEL=NAME"))
    try:
        return load_classifier(name, labels=labels or None)
    except (OSError, ImportError) as error:  # ImportError: a missing package
        first = str(error).strip().partition("\n")[0]
        raise EmokernelError(f"cannot load the judge {name}: {first}") from error


def coordinates_named(name: str) -> Coordinates:
    """A table of the package, or that of a file."""
    from emokernel.affect import TABLES, Coordinates

    return Coordinates.named(name) if name in TABLES else Coordinates.load(name)
