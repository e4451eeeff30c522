"""Whether what a command is to write can be written, told before it begins.

Nothing is made here. Folders that are missing are made by every command when it first writes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.extras import need
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


def check_picture(path: Path | None, option: str = "--plot") -> None:
    """EmokernelError if ``path`` cannot be a picture that matplotlib draws; None is none."""
    if path is None:
        return
    known = need("matplotlib.backend_bases").FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise EmokernelError(
            f"{path} does not end in a kind of picture: name one such as {path.stem}.png with"
            f" {option}"
        )
    check_file(path, option)


def check_vectors_file(path: Path, emotions: Sequence[str]) -> None:
    """EmokernelError if ``path`` cannot hold vectors of these emotions, by its ending."""
    check_file(path)
    name = format_by_ending(path) or "safetensors"
    if FORMATS[name].file_per_emotion and len(emotions) > 1:
        raise EmokernelError(
            f"a {path.suffix} file holds one emotion, and these are {len(emotions)}: write"
            f" {path.stem}.safetensors, of which `emokernel convert` makes a folder of {name} files"
        )


def check_run(path: Path, wanted: Mapping[str, Any], *, restart: bool) -> None:
    """EmokernelError if the journal ``path`` was begun with other settings than those ``wanted``.

    Only what is known before a model is loaded; the run itself compares the rest.
    """
    if restart or not path.is_file():
        return
    with path.open("rb") as file:
        first = file.readline()
    try:
        begun = dict(json.loads(first)["settings"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # torn or none: the journal says what it is
    known = json.loads(json.dumps(wanted))
    different = [
        f"{key} ({_short(begun.get(key))}, now {_short(value)})"
        for key, value in sorted(known.items())
        if begun.get(key) != value
    ]
    if different:
        raise EmokernelError(
            f"the run in {path} was begun with other settings: {', '.join(different)}; go on with"
            " those, or begin anew with --restart"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_place(path: Path, option: str) -> None:
    """EmokernelError unless a file can be made where ``path`` is to be."""
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
