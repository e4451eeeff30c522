"""File formats of emotion vectors; `read` and `write` find the right one.

docs/formats.md says what each holds and how its layers are counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.atomic import replacing
from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.extras import need
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats import gguf, json_files, native, numpy_files, torch_files
from emokernel.vectors.formats.files import existing, visible, write_each
from emokernel.vectors.formats.foreign import Hints


@dataclass(frozen=True)
class Format:
    """How a format is read, and written: ``(vectors, path)``, or ``(vectors, number, path)`` where
    each emotion has a file of its own.

    endings: those of its files; written is the first.
    site: that files are read as which hold tensors and names alone; none for others.
    """

    read: Callable[[Path, Hints], NamedVectors]
    write: Callable[..., None]
    endings: tuple[str, ...]
    file_per_emotion: bool = False
    site: str = ""


FORMATS = {
    "safetensors": Format(native.read, native.write, (".safetensors",)),
    "gguf": Format(gguf.read, gguf.write, (".gguf",), True),
    "json": Format(json_files.read, json_files.write, (".json",), True, json_files.SITE),
    "npz": Format(numpy_files.read_npz, numpy_files.write_npz, (".npz",)),
    "npy": Format(numpy_files.read_npy, numpy_files.write_npy, (".npy",), True, "block"),
    "torch": Format(torch_files.read, torch_files.write, (".pt", ".pth", ".bin")),
}


def read(path: str | PathLike[str], *, format: str | None = None, **hints: Any) -> NamedVectors:
    """`EmotionVectors.load`; ``hints`` are the fields of `foreign.Hints`."""
    if not isinstance(path, (str, PathLike)):
        raise EmokernelError("give one path: that of a file, or of a folder with all files")
    path, said = Path(path), Hints(**hints)
    name = format or format_of(path)
    kind = _format(name)
    try:
        return kind.read(path if kind.file_per_emotion else existing(path), said)
    except VectorsFileError as error:
        held = _format_within(path) if path.is_file() else None
        if held in (None, name):
            raise
        raise VectorsFileError(
            f"{path} holds a file of the format {held}: say format={held!r} (--from {held})"
        ) from error


def _format_within(path: Path) -> str | None:
    """The format that the first bytes of a file tell of."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"PK"):
        # torch.save names its members archive/data.pkl, archive/data/0; numpy's end in .npy
        return "torch" if b"/data.pkl" in start else "npz" if b".npy" in start else None
    if start[8:9] == b"{" and start[6:8] == b"\0\0":  # behind the length of the header
        return "safetensors"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    begins = {"gguf": b"GGUF", "npy": b"\x93NUMPY", "json": b"{"}
    return next((name for name, begin in begins.items() if text.startswith(begin)), None)


def write(
    vectors: NamedVectors,
    path: str | PathLike[str],
    *,
    format: str | None = None,
    model_hint: str | None = None,
) -> None:
    """`EmotionVectors.save`; an existing file is replaced only once the new one is complete.

    model_hint: GGUF only, the model type that llama.cpp and repeng expect beside the vectors.
    """
    path = Path(path)
    name = format or format_by_ending(path) or "safetensors"
    kind = _format(name)
    write_one = kind.write
    if model_hint is not None:
        if name != "gguf":
            raise EmokernelError(f"{name} has no place for a model hint: leave it out")
        write_one = partial(write_one, model_hint=model_hint)
    for loss in _losses(vectors, name):
        warnings.warn(loss, stacklevel=3)
    if kind.file_per_emotion:
        write_each(vectors, path, kind.endings[0], write_one)
    else:
        with replacing(path) as unfinished:
            write_one(vectors, unfinished)


def _losses(vectors: NamedVectors, name: str) -> Iterator[str]:
    """What files of this format cannot hold, or other programs would do otherwise."""
    if name == "gguf" and vectors.num_layers and vectors.tensor[0].any():
        yield (
            "llama.cpp cannot steer block 0: the GGUF files keep the vectors of layer 0 in a key"
            " that only emokernel reads"
        )
    if name == "gguf" and vectors.site != "block":
        yield (
            f"llama.cpp and repeng add GGUF control vectors at the end of the block; these are"
            f" meant for the site {vectors.site!r}, which only emokernel reads from the files"
        )
    site = FORMATS[name].site
    if not site:
        return
    lost = [key for key in ("provenance", "diagnostics", "calibration") if getattr(vectors, key)]
    if vectors.site != site:
        lost.insert(0, f"the site {vectors.site!r} (say it when you read them)")
    if vectors.names != tuple(sorted(vectors.names)):
        lost.insert(0, "the order of the emotions (they are read by name)")
    if lost:
        yield f"{name} files cannot hold: {', '.join(lost)}"


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise EmokernelError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    if name == "gguf":
        need("gguf")  # before a file is blamed, or a folder is made
    return FORMATS[name]


def format_of(path: Path) -> str:
    """The format of a file, by its ending, or of a folder; VectorsFileError if that has none."""
    if not path.is_dir():
        return format_by_ending(path) or "safetensors"
    names = [
        name for name, kind in FORMATS.items()
        if kind.file_per_emotion and visible(path, kind.endings[0])
    ]  # fmt: skip
    if len(names) != 1:
        what = f"files of {' and '.join(names)}" if names else "no files of emotion vectors"
        raise VectorsFileError(f"{path} holds {what}: name a file, or say the format")
    return names[0]


def format_by_ending(path: Path) -> str | None:
    """The format that files with this ending have; None if there is none."""
    ending = path.suffix.lower()
    return next((name for name, kind in FORMATS.items() if ending in kind.endings), None)
