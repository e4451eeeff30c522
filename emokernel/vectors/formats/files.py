"""What the formats share: files that are replaced whole, refusals, one file for each emotion."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from emokernel.atomic import UNFINISHED, replacing, settle
from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.algebra import NamedVectors

# More than any model has: a wrong number must not ask for that much memory.
MOST_LAYERS = 10_000
# Layers without vectors take no place in a file, so vectors may be larger than their file; beyond
# both of these a header is wrong.
_BYTES_OF_ANY_FILE = 2**28
_BYTES_PER_BYTE = 256
# What is compressed may be as large, but numbers do not shrink that much.
_UNPACKED_PER_BYTE = 16

_POINTER = b"version https://git-lfs.github.com/spec/"
_LOCAL_HEADER = 30  # bytes before a member of a zip archive (APPNOTE.TXT 4.3.7)

# What no file name should hold on some system; a percent sign tells of the others.
_UNSAFE = re.compile('[\\x00-\\x1f"%*/:<>?\\\\|\\x7f\\ud800-\\udfff]|^\\.|[. ]$')


def existing(path: Path) -> Path:
    """``path``; FileNotFoundError unless it is a file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file of emotion vectors: {path}")
    return path


@contextmanager
def refusing(path: Path, kind: str) -> Iterator[None]:
    """VectorsFileError naming ``path`` in place of whatever a parser of damaged bytes raises."""
    try:
        yield
    except (VectorsFileError, OSError):
        raise
    except Exception as error:  # parsers raise errors of many kinds over damaged bytes
        if _is_pointer(path):
            raise VectorsFileError(
                f"{path} is a pointer of Git LFS that stands for the file: fetch that, by `git lfs"
                " pull` in its repository"
            ) from error
        if isinstance(error, EmokernelError):
            raise VectorsFileError(f"{path}: {error}") from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VectorsFileError(
            f"{path} is damaged or no {kind} file ({reason}); restore or extract it again"
        ) from error


def _is_pointer(path: Path) -> bool:
    """Whether it is what a clone without Git LFS has in the place of a large file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def check_shape(shape: Sequence[int], files: Iterable[Path]) -> None:
    """EmokernelError for a tensor ``[L, E, d]`` that these files cannot mean."""
    if min(shape) < 0 or shape[0] > MOST_LAYERS:
        raise EmokernelError(f"no model has vectors of the shape {list(shape)}: restore the file")
    claimed, stored = 4 * prod(shape), sum(path.stat().st_size for path in files)
    if claimed > max(_BYTES_OF_ANY_FILE, _BYTES_PER_BYTE * stored):
        raise EmokernelError(
            f"asks for {claimed} bytes of memory and holds {stored}: it is damaged; restore it"
        )


@contextmanager
def open_archive(path: Path) -> Iterator[ZipFile]:
    """A zip archive whose directory is whole and says no size beyond reason.

    Nothing of its members is read before; what each has beyond the size that is said is not read.
    """
    with path.open("rb") as file:
        try:
            archive = ZipFile(file)
        except OSError as error:  # a damaged offset
            raise BadZipFile(str(error)) from error
        members = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if len({info.filename for info in members}) != len(members):
            raise EmokernelError("a member of the archive is there twice")
        end = 0
        for info in members:
            _check_gap(end, info.header_offset)
            file.seek(info.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")  # of the name and the extra field
            end = info.header_offset + _LOCAL_HEADER + int(lengths.sum()) + info.compress_size
        _check_gap(end, archive.start_dir)
        if not all(info.compress_type in (ZIP_STORED, ZIP_DEFLATED) for info in members):
            raise EmokernelError(
                "it is compressed in a way that neither numpy nor torch writes: save it again"
            )
        unpacked, size = sum(info.file_size for info in members), path.stat().st_size
        if unpacked > max(_BYTES_OF_ANY_FILE, _UNPACKED_PER_BYTE * size):
            raise EmokernelError(
                f"it unpacks to {unpacked} bytes of memory from {size}: it is damaged, or save it"
                " again without compression"
            )
        yield archive


def _check_gap(end: int, begin: int) -> None:
    """EmokernelError if a member that the directory lost fits between (a descriptor is smaller)."""
    if not 0 <= begin - end < _LOCAL_HEADER:
        raise EmokernelError("damaged: the directory of the archive is not that of its members")


def visible(folder: Path, ending: str) -> list[Path]:
    """The files of a folder with that ending, in the order of their emotions."""
    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ending and not path.name.startswith(".") and path.is_file()
    )
    return sorted(files, key=lambda path: (emotion_named(path), path.name))


def emotion_named(path: Path) -> str:
    """The emotion that a file is called after; what `_file_name` would not write is no escape."""
    name = unquote(path.stem, errors="surrogatepass")
    return name if _file_name(name) == path.stem else path.stem


def _file_name(emotion: str) -> str:
    def escaped(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))

    return _UNSAFE.sub(escaped, emotion)


def emotion_files(path: Path, ending: str) -> list[Path]:
    """``path`` itself, or all files of a folder; VectorsFileError if it has none."""
    if not path.is_dir():
        return [existing(path)]
    files = visible(path, ending)
    if not files:
        raise VectorsFileError(
            f"{path} holds no {ending} files: pass a folder with one per emotion"
        )
    return files


def write_each(
    vectors: NamedVectors,
    path: Path,
    ending: str,
    write: Callable[[NamedVectors, int, Path], None],
) -> None:
    """Write one file for each emotion with ``write(vectors, number of the emotion, file)``.

    A ``path`` with the ending is a file and takes one emotion, any other is a folder of
    ``<emotion><ending>``, where what cannot be in a file name is written as %XX.

    Raises EmokernelError for several emotions in one file, and a folder with other files of that
    ending, which would be read back as emotions too.
    """
    if path.suffix.lower() == ending:
        if len(vectors.names) != 1:
            raise EmokernelError(
                f"a {ending} file holds one emotion, these vectors have {len(vectors.names)}: name"
                " a folder (with the format said) or select one emotion"
            )
        with replacing(path) as unfinished:
            write(vectors, 0, unfinished)
        return
    targets = [path / (_file_name(name) + ending) for name in vectors.names]
    path.mkdir(parents=True, exist_ok=True)
    other = [file for file in visible(path, ending) if file not in targets]
    if other:
        raise EmokernelError(f"{other[0]} is of none of these emotions: name an empty folder")
    with TemporaryDirectory(prefix=UNFINISHED, dir=path) as folder:
        for number, target in enumerate(targets):
            part = Path(folder, target.name)
            if part.exists():  # where "Joy" and "joy" are one file
                raise EmokernelError(f"two emotions need the file {target}: rename one")
            write(vectors, number, part)
        for target in targets:
            settle(Path(folder, target.name), Path(os.path.realpath(target)))
