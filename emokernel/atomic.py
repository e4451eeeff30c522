"""Files that are replaced whole: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# How the name of an unfinished file begins; one is left behind only where a process was killed.
UNFINISHED = ".emokernel-"
_LONGEST_ENDING = 32


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside ``path`` to write, which takes its place once it is complete.

    It has the ending of ``path`` and a name of its own, so that nobody else writes it, and is gone
    if something fails. Links are followed; what is no file (/dev/stdout) is given as it is. OSError
    where `open` would raise one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(path))
    # Some writers go by the ending; a whole name may be as long as names can be.
    ending = target.suffix[-_LONGEST_ENDING:]
    unfinished = target.with_name(f"{UNFINISHED}{secrets.token_hex(8)}{ending}")
    try:
        with unfinished.open("xb") as file:  # not tempfile's, whose files nobody else may read
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield unfinished
        unfinished.chmod(stat.S_IMODE(mode))  # safetensors makes a file of its own
        settle(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def settle(unfinished: Path, target: Path) -> None:
    """Let a complete file take the place of ``target``, on the disk when this returns."""
    if target.exists():
        with target.open("r+b"):  # one that must not be written is not replaced either
            pass
    with unfinished.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())
    if target.exists():
        shutil.copymode(target, unfinished)
    try:
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _overwrite(unfinished, target)
    sync_folder(target.parent)


def _overwrite(unfinished: Path, target: Path) -> None:
    """For a file that is mounted by itself, which nothing else can take the place of."""
    with target.open("r+b") as file, unfinished.open("rb") as content:
        shutil.copyfileobj(content, file)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk, where the system knows how."""
    with suppress(OSError):  # Windows opens no folders, some file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8; see `encoded`."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(encoded(text))


def encoded(text: str) -> bytes:
    """UTF-8, with half a character (a lone surrogate) as its escape, which JSON reads back."""
    return text.encode("utf-8", "backslashreplace")


def save_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write matplotlib's ``figure`` in the format of the ending, PNG without one."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format=Path(path).suffix[1:] or "png", **options)
