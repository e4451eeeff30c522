"""Whether what a command is to write can be written, told before it begins.

Nothing is made here. Folders that are missing are made by every command when it first writes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.lab.measure.journal import Journal
from emokernel.lab.report.vectors_plot import plot_vectors
from emokernel.vectors import EmotionVectors
from emokernel.vectors.formats import FORMATS, format_by_ending


def check_file(path: Path, option: str = "--output") -> None:
    """EmokernelError if ``path`` cannot be a file that is written, or replaced."""
    if path.is_dir():
        raise EmokernelError(f"{path} is a folder: name a file with {option}")
    _check_place(path, option)


def check_folder(path: Path, option: str = "--output") -> None:
    """EmokernelError if ``path`` cannot be a folder that files are written into."""
    if path.exists() and not path.is_dir():
        raise EmokernelError(f"{path} is a file: name a folder with {option}")
    _check_place(path / "file", option)


def add_plot(parser: argparse.ArgumentParser) -> None:
    """--plot, a picture of vectors."""
    parser.add_argument(
        "--plot", type=Path, help="picture of norms, cosines and diagnostics to write (.png)"
    )


def check_plot(path: Path | None) -> None:
    """EmokernelError if ``path`` cannot be a picture that matplotlib draws; None is none."""
    if path is None:
        return
    known = need("matplotlib.backend_bases").FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise EmokernelError(
            f"{path} does not end in a kind of picture: name one such as {path.stem}.png with"
            " --plot"
        )
    check_file(path, "--plot")


def plot(vectors: EmotionVectors, path: Path | None) -> None:
    """Draw the picture of ``--plot``, if there is to be one, and say so."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_vectors(vectors, path)
        print(f"wrote {path}")


def check_vectors_file(path: Path, emotions: Sequence[str]) -> None:
    """EmokernelError if ``path`` cannot hold vectors of these emotions, by its ending."""
    check_file(path)
    name = format_by_ending(path) or "safetensors"
    if FORMATS[name].file_per_emotion and len(emotions) > 1:
        raise EmokernelError(
            f"a {path.suffix} file holds one emotion, and these are {len(emotions)}: write"
            f" {path.stem}.safetensors, of which `emokernel convert` makes a folder of {name} files"
        )


def check_run(path: Path, wanted: Mapping[str, object], chosen: argparse.Namespace) -> None:
    """EmokernelError if the journal ``path`` was begun with other settings than those ``wanted``.

    Only what is known before a model is loaded; the run itself compares the rest.
    """
    if chosen.restart or not path.is_file():
        return
    with path.open("rb") as file:
        first = file.readline()
    try:
        begun = dict(json.loads(first)["settings"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # torn or none: the journal says what it is
    Journal(path, begun | dict(wanted))


def _check_place(path: Path, option: str) -> None:
    if not path.name or "\0" in str(path):
        raise EmokernelError(f"{str(path)!r} is no name of a file: give one with {option}")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise EmokernelError(f"{parent} is a file, so {path} cannot be made: change {option}")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise EmokernelError(
            f"nothing can be written to {parent} ({error.strerror}): change {option}"
        ) from error
