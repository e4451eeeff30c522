"""What several commands take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emokernel.affect import TABLES, Coordinates
from emokernel.choices import SITE
from emokernel.demo.named import DEFAULT, WITH_VECTORS
from emokernel.errors import EmokernelError, telling
from emokernel.lab.judges import TRANSFORMER, load_classifier
from emokernel.lab.measure.classifiers import TextClassifier
from emokernel.vectors import EmotionVectors
from emokernel.vectors.formats import FORMATS

MODEL = (
    '"smollm2" (SmolLM2-135M-Instruct, fetched once), "embedded" (a small one of the package), a'
    " folder, a repository id of the Hub, or a GGUF file"
)


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
        if not partial.exists():
            raise
        print(
            f"\ninterrupted; the same command goes on with {partial}, unless it says --restart",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


def add_model(
    parser: argparse.ArgumentParser, *, optional: bool = False, usual: str = DEFAULT
) -> None:
    """MODEL, or the ``usual`` one where it is ``optional`` and left out, and how it is loaded."""
    otherwise = f" (left out: {usual})" if optional else ""
    parser.add_argument(
        "model", nargs="?" if optional else None, default=usual if optional else None,
        help=f"{MODEL}{otherwise}",
    )  # fmt: skip
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"),
        help="of the weights (auto: as they are stored; of a GGUF file float32)",
    )  # fmt: skip
    parser.add_argument(
        "--device-map",
        help='"auto", "cpu", "cuda:0", ...: where the layers go, with accelerate (the first GPU if'
        " there is one, else the CPU)",
    )


def add_vectors(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """--vectors, those that ship with a model unless given; ``otherwise``: those of any other."""
    parser.add_argument(
        "--vectors", type=Path,
        help=f"file of emotion vectors ({WITH_VECTORS}: the shipped ones{otherwise})",
    )  # fmt: skip


def add_measured(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """What is measured: MODEL, --vectors (`models.vectors_of`) and --compile-backend."""
    add_model(parser, optional=optional)
    add_vectors(parser, "; of another model, random ones")
    parser.add_argument("--compile-backend", default="inductor", help="of torch.compile (inductor)")


def add_file(parser: argparse.ArgumentParser, name: str) -> None:
    """A file of vectors, and what it may not say itself."""
    parser.add_argument(name, help="a file, or a folder with a file for each emotion")
    format_of_it = "its format (its ending)"
    parser.add_argument("--from", dest="format", choices=tuple(FORMATS), help=format_of_it)
    parser.add_argument("--names", nargs="+", help="the emotions, where the file does not say them")
    parser.add_argument("--site", choices=SITE, help="where they belong, if the file does not say")
    parser.add_argument("--layer", type=int, help="layer of a file with one vector (from 0)")
    parser.add_argument("--num-layers", type=positive, help="of the model, if no file says it")
    parser.add_argument("--prefix", default="", help="of all names of files, before the emotion")


def load_file(path: str, chosen: argparse.Namespace) -> EmotionVectors:
    """The vectors of `add_file`'s arguments."""
    return EmotionVectors.load(
        path, format=chosen.format, names=chosen.names, site=chosen.site,
        layer=chosen.layer, num_layers=chosen.num_layers, prefix=chosen.prefix,
    )  # fmt: skip


def add_judging(parser: argparse.ArgumentParser, judge: str, but: str = "") -> None:
    """Who reads the texts of a run: --judge (None; ``judge``, unless the model has its own),
    --label and --coordinates.
    """
    parser.add_argument(
        "--judge",
        help="classifier that reads the texts: a repository id or folder of Hugging Face, the small"
        f" English one of the package ({judge}), or the better one, {TRANSFORMER}, whose base is"
        f" fetched once{but}",
    )  # fmt: skip
    parser.add_argument(
        "--label", action="append", default=[], metavar="EMOTION=LABEL[,LABEL]",
        help="what the judge calls an emotion, where the names differ",
    )  # fmt: skip
    parser.add_argument(
        "--coordinates", default="russell",
        help="table of the circumplex: russell, glasgow or a JSON file (russell)",
    )  # fmt: skip


def add_writing(parser: argparse.ArgumentParser, tokens: str) -> None:
    """How a run writes its texts, of ``tokens`` unless told, and goes on where it was stopped."""
    parser.add_argument("--max-new-tokens", type=positive, help=f"of each text ({tokens})")
    parser.add_argument("--batch-size", type=positive, default=240, help="texts at once (240)")
    parser.add_argument("--other-model", action="store_true", help="allow another model's vectors")
    parser.add_argument("--restart", action="store_true", help="begin anew, rename what is there")


def labels_of(chosen: argparse.Namespace) -> dict[str, list[str]]:
    """{emotion: labels} of ``--label``; EmokernelError for what is none."""
    given = _assignments(chosen.label, "--label", "EMOTION=LABEL")
    return {emotion: labels.split(",") for emotion, labels in given}


def _assignments(given: Iterable[str], option: str, form: str) -> Iterator[tuple[str, str]]:
    """(name, value) of each "name=value"; EmokernelError for what is none, with the ``form``."""
    for each in given:
        name, _, value = each.partition("=")
        if not (name and value):
            raise EmokernelError(f"{option} needs {form}, got {each!r}")
        yield name, value


def load_judge(name: str, renamed: Iterable[str] = (), option: str = "") -> TextClassifier:
    """A classifier by name, some labels renamed by ``option``; EmokernelError if that fails."""
    labels = dict(_assignments(renamed, option, "LABEL=NAME"))
    with telling(f"load the judge {name}"):
        return load_classifier(name, labels=labels or None)


def coordinates_of(chosen: argparse.Namespace) -> Coordinates:
    """The table of ``--coordinates``, of the package or a file."""
    name = chosen.coordinates
    return Coordinates.named(name) if name in TABLES else Coordinates.load(name)
