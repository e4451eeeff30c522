"""The cache: one folder for each set of weights, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants

_MANIFEST = "emokernel-weights.json"


def cache_folder() -> Path:
    """Where weights are kept: EMOKERNEL_CACHE, else "emokernel" among the assets of Hugging Face.

    These follow HF_HOME, HF_ASSETS_CACHE and XDG_CACHE_HOME.
    """
    own = os.environ.get("EMOKERNEL_CACHE")
    return Path(own).expanduser() if own else Path(constants.HF_ASSETS_CACHE) / "emokernel"


def lacks(folder: Path) -> str | None:
    """What a folder of the cache lacks; None for nothing, "" if it is not there at all.

    Names and sizes of its files are compared with what was written down when it was made.
    """
    if not os.path.isdir(folder):  # False, not an error, where one may not look
        return ""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text("utf-8"))["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _MANIFEST
    for name, size in sizes:
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return name
        if found != size:
            return f"{size - found:,} bytes of {name}" if found < size else f"the right {name}"
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it, no other process fills ``folder``; one that does is waited for, which is said.

    The system forgets the lock of a process that died.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process, which fetches {folder.name}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def filling(folder: Path, about: Mapping[str, object]) -> Iterator[tuple[Path, Path]]:
    """(a folder to work in, one to fill), which takes the place of ``folder`` once it is complete.

    Both are gone if something fails, and so is what a killed process has left. Needs `locked`.
    ``about`` is written down with the sizes of the files.
    """
    working = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(working, ignore_errors=True)
    filled = working / "filled"
    filled.mkdir(parents=True)
    try:
        yield working, filled
        files = sorted(path for path in filled.rglob("*") if path.is_file())
        sizes = {path.relative_to(filled).as_posix(): path.stat().st_size for path in files}
        manifest = filled / _MANIFEST
        manifest.write_text(json.dumps({**about, "files": sizes}, indent=1) + "\n", "utf-8")
        for path in files:
            path.chmod(stat.S_IMODE(manifest.stat().st_mode))  # safetensors lets nobody else read
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        filled.replace(folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
