"""What the formats share: files that are replaced whole, refusals, one file for each emotion."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from urllib.parse import quote
from zipfile import ZipFile

from emokernel.errors import EmokernelError, VectorsFileError

# More than any model has: a wrong number must not ask for that much memory.
MOST_LAYERS = 10_000
# Layers without vectors take no place in a file, so vectors may be larger than their file; beyond
# both of these a header is wrong.
_BYTES_OF_ANY_FILE = 2**28
_BYTES_PER_BYTE = 256

_LOCAL_HEADER = 30  # bytes before a member of a zip archive (APPNOTE.TXT 4.3.7)

# What no file name should hold on some system; a percent sign tells the others.
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
    except EmokernelError as error:
        raise VectorsFileError(f"{path}: {error}") from error
    except Exception as error:  # parsers raise errors of many kinds over damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VectorsFileError(
            f"{path} is damaged or no {kind} file ({reason}); restore or extract it again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write, which takes its place once it is complete."""
    unfinished = path.with_name(path.name + ".part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_size(claimed: int, stored: int) -> None:
    """EmokernelError if files of ``stored`` bytes ask for ``claimed`` bytes of memory, too many."""
    if claimed > max(_BYTES_OF_ANY_FILE, _BYTES_PER_BYTE * stored):
        raise EmokernelError(
            f"asks for {claimed} bytes of memory and holds {stored}: it is damaged; restore it"
        )


def check_shape(shape: Sequence[int], stored: int) -> None:
    """EmokernelError for a tensor ``[L, E, d]`` that files of ``stored`` bytes cannot mean."""
    if min(shape) < 0 or shape[0] > MOST_LAYERS:
        raise EmokernelError(f"no model has vectors of the shape {list(shape)}: restore the file")
    check_size(4 * prod(shape), stored)


def open_archive(path: Path) -> ZipFile:
    """A zip archive whose directory is whole; its members are checked when they are read."""
    content = path.read_bytes()
    archive = ZipFile(BytesIO(content))  # on a file, damaged offsets would be errors of the system
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise EmokernelError("a member of the archive is there twice")
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        _check_gap(end, info.header_offset)
        lengths = content[info.header_offset + 26 :][:4]  # of the name and the extra field
        end = info.header_offset + _LOCAL_HEADER + info.compress_size
        end += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    _check_gap(end, archive.start_dir)
    check_size(sum(info.file_size for info in archive.infolist()), len(content))
    return archive


def _check_gap(end: int, begin: int) -> None:
    """EmokernelError if a member that the directory lost fits between (a descriptor is smaller)."""
    if not 0 <= begin - end < _LOCAL_HEADER:
        raise EmokernelError("damaged: the directory of the archive is not that of its members")


def visible(folder: Path, ending: str) -> list[Path]:
    """The files of a folder with that ending, in the order of their names."""
    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ending and not path.name.startswith(".") and path.is_file()
    )
    return sorted(files, key=lambda path: (path.stem, path.name))  # "a" before "a b"


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
    names: Sequence[str],
    path: Path,
    ending: str,
    write: Callable[[int, Path], None],
    *,
    names_matter: bool = True,
) -> None:
    """Write one file for each emotion with ``write(number of the emotion, file)``.

    A ``path`` with the ending is a file and takes one emotion, any other is a folder of
    ``<emotion><ending>``. ``names_matter``: the emotion is read back from the name of its file, so
    it must be able to be one; otherwise what cannot be in a file name is written as %XX.

    Raises EmokernelError for several emotions in one file, names that cannot be file names, and a
    folder with other files of that ending, which would be read back as emotions too.
    """
    if path.suffix.lower() == ending:
        if len(names) != 1:
            raise EmokernelError(
                f"a {ending} file holds one emotion, these vectors have {len(names)}: name a"
                " folder (with the format said) or select one emotion"
            )
        with replacing(path) as unfinished:
            write(0, unfinished)
        return
    targets = [path / (_file_name(name, names_matter) + ending) for name in names]
    path.mkdir(parents=True, exist_ok=True)
    other = [file for file in visible(path, ending) if file not in targets]
    if other:
        raise EmokernelError(f"{other[0]} is of none of these emotions: name an empty folder")
    unfinished = [target.with_name(target.name + ".part") for target in targets]
    for stale in unfinished:
        stale.unlink(missing_ok=True)
    try:
        for number, part in enumerate(unfinished):
            if part.exists():  # where "Joy" and "joy" are one file
                raise EmokernelError(f"two emotions need the file {targets[number]}: rename one")
            write(number, part)
        for part, target in zip(unfinished, targets, strict=True):
            part.replace(target)
    finally:
        for part in unfinished:
            part.unlink(missing_ok=True)


def _file_name(name: str, names_matter: bool) -> str:
    safe = _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), name)
    safe = safe.replace(".", "%2E") if safe.startswith(".") or safe.endswith(".") else safe
    if names_matter and safe != name:
        raise EmokernelError(
            f"{name!r} cannot be the name of a file, where this format keeps it: rename the"
            " emotion, or write safetensors"
        )
    return safe


def total_bytes(paths: Sequence[Path]) -> int:
    """The size of all files together."""
    return sum(os.path.getsize(path) for path in paths)
