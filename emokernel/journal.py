"""The journal of a long run: what is done already, so that an interrupted one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError


class Journal:
    """A file of JSON lines: the settings of a run, then what it finished, each under a key.

    ``path`` None keeps nothing. A line that an interruption has torn is dropped.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], *, restart: bool = False
    ) -> None:
        """Open or begin it; EmokernelError naming the settings that differ from those it has."""
        self._path = path
        self._known: dict[str, Any] = {}
        if path is None:
            return
        settings = json.loads(json.dumps(settings))
        if path.exists() and not restart:
            self._read(path, settings)
        else:
            path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def get(self, key: str) -> Any | None:
        """What is known under ``key``, or None."""
        return self._known.get(key)

    def items(self) -> Iterable[tuple[str, Any]]:
        """All that is known, as (key, result), in the order in which it came."""
        return self._known.items()

    def put(self, results: Mapping[str, Any]) -> None:
        """Keep results, on the disk when this returns."""
        self._known |= results
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            for key, value in results.items():
                file.write(json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path, settings: Mapping[str, Any]) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = map(json.loads, whole.splitlines())
            stored = dict(first["settings"])
            self._known = {line["key"]: line["value"] for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise EmokernelError(
                f"{path} is damaged: begin anew with --restart (restart=True), or remove it"
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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
