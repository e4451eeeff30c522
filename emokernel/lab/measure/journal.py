"""The journal of a long run: what is done already, so that an interrupted one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from emokernel.atomic import encoded, sync_folder
from emokernel.errors import EmokernelError

# How the first line of every journal begins.
_HEAD = b'{"settings": '


class Journal:
    """A file of JSON lines: the settings of a run, then what it finished, each under a key.

    ``path`` None keeps nothing. A line that an interruption has torn is dropped. ``restart`` begins
    a new file and erases nothing: one that is there, whatever it holds, is renamed to the first of
    NAME.1, NAME.2, ... beside it that is free.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], *, restart: bool = False
    ) -> None:
        """Open or begin it.

        EmokernelError naming the settings that differ from those it has, and for a file that is
        damaged or no journal; such a file is left as it is.
        """
        self._path = path
        self._known: dict[str, Any] = {}
        if path is None:
            return
        first = json.dumps({"settings": settings})
        if restart:
            _set_aside(path)
        content = path.read_bytes() if path.exists() else b""
        if _is_unbegun(content, first):
            self._write("wb", [first])
            sync_folder(path.parent)
        else:
            self._read(path, content, json.loads(first)["settings"])

    def get(self, key: str) -> Any | None:
        """What is known under ``key``, or None."""
        return self._known.get(key)

    def items(self) -> Iterable[tuple[str, Any]]:
        """All that is known, as (key, result), in the order in which it came."""
        return self._known.items()

    def put(self, results: Mapping[str, Any]) -> None:
        """Keep results, on the disk when this returns."""
        if self._path is not None:
            lines = ({"key": key, "value": value} for key, value in results.items())
            self._write("ab", (json.dumps(line, ensure_ascii=False) for line in lines))
        self._known |= results

    def _write(self, mode: str, lines: Iterable[str]) -> None:
        content = encoded("".join(f"{line}\n" for line in lines))
        with self._path.open(mode) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path, content: bytes, settings: Mapping[str, Any]) -> None:
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = map(json.loads, whole.splitlines())
            stored = dict(first["settings"])
            self._known = {line["key"]: line["value"] for line in lines}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EmokernelError(
                f"{path} is damaged: begin anew with --restart (restart=True), or move it away if"
                " it is not a file of emokernel's"
            ) from error
        different = [
            f"{key} ({_short(stored.get(key))}, now {_short(settings.get(key))})"
            for key in sorted({*stored, *settings})
            if stored.get(key) != settings.get(key)
        ]
        if different:
            raise EmokernelError(
                f"the run in {path} was begun with other settings: {', '.join(different)}; go on"
                " with those, or begin anew with --restart (restart=True)"
            )
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))


def _is_unbegun(content: bytes, first: str) -> bool:
    """Whether there is nothing, or a first line of a journal that lacks its end.

    One that lacks nothing but the line feed may be of another file, unless it is ``first``.
    """
    if b"\n" in content or not _HEAD.startswith(content[: len(_HEAD)]):
        return False
    try:
        return json.loads(content) == json.loads(first)
    except ValueError:
        return True


def _set_aside(path: Path) -> None:
    if not path.is_file():
        return
    for number in count(1):
        name = path.with_name(f"{path.name}.{number}")
        with suppress(FileExistsError):
            name.touch(exist_ok=False)  # taken at once, so that nobody else renames to it
            path.replace(name)
            return


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
