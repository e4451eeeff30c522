"""File formats of emotion vectors, one module for each; `read` and `write` find the right one.

docs/formats.md says what each holds and how its layers are counted.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.formats.files import existing, visible
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.named_vectors import NamedVectors


@dataclass(frozen=True)
class Format:
    """A format: where it is written, the endings of its files, whether each emotion has its own."""

    module: str
    endings: tuple[str, ...]
    file_per_emotion: bool = False

    def load(self) -> ModuleType:
        """The module, with ``read(path, hints)`` and ``write(vectors, path)``."""
        return importlib.import_module(f"{__name__}.{self.module}")


FORMATS = {
    "safetensors": Format("native", (".safetensors",)),
    "gguf": Format("gguf", (".gguf",), file_per_emotion=True),
    "json": Format("json_files", (".json",), file_per_emotion=True),
    "npz": Format("npz", (".npz",)),
    "npy": Format("npy", (".npy",), file_per_emotion=True),
    "torch": Format("torch_files", (".pt", ".pth", ".bin")),
}


def read(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    names: Sequence[str] | None = None,
    site: str | None = None,
    num_layers: int | None = None,
    layer: int | None = None,
    prefix: str = "",
) -> NamedVectors:
    """Read a file of any format, or a folder with a file for each emotion.

    format: a key of `FORMATS`; without it the content of the file decides, then its ending.
    names, site, num_layers, layer, prefix: what the file does not say itself; see `hints.Hints`.

    Raises FileNotFoundError; VectorsFileError for a file that is damaged or holds something else;
    EmokernelError for hints that contradict the file.
    """
    path = Path(path)
    hints = Hints(names, site, num_layers, prefix, layer)
    return _format(format or format_of(path)).load().read(path, hints)


def write(
    vectors: NamedVectors,
    path: str | PathLike[str],
    *,
    format: str | None = None,
    model_hint: str | None = None,
) -> None:
    """Write ``vectors``; what the format cannot hold is told by a warning.

    format: a key of `FORMATS`; without it the ending decides, safetensors if it is none of theirs.
    model_hint: GGUF only, the model type that llama.cpp and repeng expect beside the vectors.

    Raises EmokernelError for vectors that the format cannot hold at all, OSError.
    """
    path = Path(path)
    name = format or format_by_ending(path) or "safetensors"
    options: dict[str, Any] = {}
    if model_hint is not None:
        if name != "gguf":
            raise EmokernelError(f"{name} has no place for a model hint: leave it out")
        options["model_hint"] = model_hint
    _format(name).load().write(vectors, path, **options)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise EmokernelError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def format_of(path: Path) -> str:
    """The format of a file or folder; VectorsFileError if it is none that is known."""
    if path.is_dir():
        names = [
            name for name, kind in FORMATS.items()
            if kind.file_per_emotion and visible(path, kind.endings[0])
        ]  # fmt: skip
        if len(names) != 1:
            what = f"files of {' and '.join(names)}" if names else "no files of emotion vectors"
            raise VectorsFileError(f"{path} holds {what}: name a file, or say the format")
        return names[0]
    name = _by_content(existing(path)) or format_by_ending(path)
    if name is None:
        raise VectorsFileError(
            f"{path} is of no known format: say the format if it is one of {', '.join(FORMATS)}"
        )
    return name


def _by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"GGUF"):
        return "gguf"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK"):
        # torch.save names its members archive/data.pkl, archive/data/0; numpy's end in .npy
        return "torch" if b"/data.pkl" in start else "npz" if b".npy" in start else None
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= path.stat().st_size - 8:
        return "safetensors"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return "json"
    return None


def format_by_ending(path: Path) -> str | None:
    """The format that files with this ending have; None if there is none."""
    ending = path.suffix.lower()
    return next((name for name, kind in FORMATS.items() if ending in kind.endings), None)
