"""What the formats share: files that are replaced whole, refusals, one file for each emotion."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from emokernel.atomic import UNFINISHED, replacing, settle
from emokernel.errors import EmokernelError, VectorsFileError

# More than any model has: a wrong number must not ask for that much memory.
MOST_LAYERS = 10_000
# Layers without vectors take no place in a file, so vectors may be larger than their file; beyond
# both of these a header is wrong.
_BYTES_OF_ANY_FILE = 2**28
_BYTES_PER_BYTE = 256
# What is compressed may be as large, but numbers do not shrink that much.
_UNPACKED_PER_BYTE = 16

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
        with archive:
            _check_archive(archive, file, path.stat().st_size)
            yield archive


def _check_archive(archive: ZipFile, file: IO[bytes], size: int) -> None:
    members = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len({info.filename for info in members}) != len(members):
        raise EmokernelError("a member of the archive is there twice")
    end = 0
    for info in members:
        _check_gap(end, info.header_offset)
        file.seek(info.header_offset + 26)
        lengths = file.read(4)  # of the name and the extra field
        end = info.header_offset + _LOCAL_HEADER + info.compress_size
        end += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise EmokernelError(
                f"{info.filename[:80]!r} in it is compressed in a way that neither numpy nor torch"
                " writes: save it again"
            )
    _check_gap(end, archive.start_dir)
    unpacked = sum(info.file_size for info in members)
    if unpacked > max(_BYTES_OF_ANY_FILE, _UNPACKED_PER_BYTE * size):
        raise EmokernelError(
            f"it unpacks to {unpacked} bytes of memory from {size}: it is damaged, or save it again"
            " without compression"
        )


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
    with TemporaryDirectory(prefix=UNFINISHED, dir=path) as folder:
        unfinished = [Path(folder, target.name) for target in targets]
        for number, part in enumerate(unfinished):
            if part.exists():  # where "Joy" and "joy" are one file
                raise EmokernelError(f"two emotions need the file {targets[number]}: rename one")
            write(number, part)
        for part, target in zip(unfinished, targets, strict=True):
            settle(part, Path(os.path.realpath(target)))


def _file_name(name: str, names_matter: bool) -> str:
    safe = _UNSAFE.sub(lambda match: quote(match[0], safe="", errors="surrogatepass"), name)
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
