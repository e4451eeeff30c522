"""The store of an extraction on disk: settings, sampled answers, one row per text and layer.

It is the checkpoint as well: what it holds is never computed again. The rows are memory mapped, so
that memory stays flat however many texts there are.

    settings.json    what was asked for; a store goes on only under the very same settings
    answers.jsonl    the model's own answers, one a line, appended batch by batch
    rows.f32         fp32 [layers, texts, d], the activations
    lengths.f32      fp32 [layers, texts], the mean length of the residual stream's rows
    done.u8          uint8 [texts], 1 where both are written
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokernel.errors import EmokernelError

_SETTINGS, _ANSWERS = "settings.json", "answers.jsonl"
_ARRAYS = ("rows.f32", "lengths.f32", "done.u8")
_FILES = (_SETTINGS, _ANSWERS, *_ARRAYS)


class Store:
    """A folder of one extraction, new or continued."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Open ``folder``; ``restart`` forgets what is there.

        Raises EmokernelError for a store of other settings, naming them, and for a folder that is
        something else.
        """
        self.folder = Path(folder)
        if restart:
            remove(self.folder)
        settings = json.loads(json.dumps(settings))
        path = self.folder / _SETTINGS
        if path.is_file():
            _check(self.folder, _read_settings(path), settings)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise EmokernelError(f"{folder} is no store of an extraction: choose another folder")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(path.name + ".part")
            unfinished.write_text(json.dumps(settings, indent=1))
            unfinished.replace(path)

    def answers(self) -> dict[int, dict[str, Any]]:
        """The answers so far, by the number of their prompt; a torn last line is taken away."""
        path = self.folder / _ANSWERS
        if not path.is_file():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            return {line["prompt"]: line for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path) from error

    def append(self, answers: Iterable[Mapping[str, Any]]) -> None:
        """Append the answers of a batch and see them on the disk."""
        with (self.folder / _ANSWERS).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in answers))
            file.flush()
            os.fsync(file.fileno())

    def allocate(self, layers: int, texts: int, width: int) -> None:
        """Make room for the rows, or find them again; OSError if the disk is too full."""
        shapes = ((layers, texts, width), (layers, texts), (texts,))
        kinds = (np.float32, np.float32, np.uint8)
        self.rows, self.lengths, self.done = (
            _mapped(self.folder / name, shape, kind)
            for name, shape, kind in zip(_ARRAYS, shapes, kinds, strict=True)
        )

    def write(self, texts: Sequence[int], rows: np.ndarray, lengths: np.ndarray) -> None:
        """Write ``rows [layers, batch, d]`` and ``lengths [layers, batch]`` of these texts."""
        for layer, values in enumerate(rows):
            self.rows[layer, texts] = values
        self.lengths[:, texts] = lengths
        self.done[texts] = 1


def remove(folder: Path) -> None:
    """Remove a store, if there is one; EmokernelError if the folder holds anything else."""
    folder = Path(folder)
    if not folder.exists():
        return
    own = {name + unfinished for name in _FILES for unfinished in ("", ".part")}
    foreign = sorted({each.name for each in folder.iterdir()} - own)
    if foreign:
        raise EmokernelError(
            f"{folder} holds what no extraction wrote ({foreign[0]}): remove it by hand"
        )
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(settings, dict):
        raise _damaged(path)
    return settings


def _check(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    different = [
        key + _change(stored.get(key), asked.get(key))
        for key in sorted({*stored, *asked})
        if stored.get(key) != asked.get(key)
    ]
    if different:
        raise EmokernelError(
            f"the unfinished extraction in {folder} was begun with other settings:"
            f" {', '.join(different)}; go on with those, or begin anew with --restart"
            " (restart=True)"
        )


def _change(before: Any, now: Any) -> str:
    """What the values were and are; nothing where that is too long to read."""
    shown = f" ({json.dumps(before)}, now {json.dumps(now)})"
    return shown if len(shown) <= 60 else ""


def _mapped(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not path.is_file():
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        unfinished.replace(path)
    if path.stat().st_size != size:
        raise _damaged(path)
    return np.memmap(path, kind, "r+", shape=shape)


def _damaged(path: Path) -> EmokernelError:
    return EmokernelError(
        f"{path} is damaged: begin anew with --restart (restart=True), or remove its folder"
    )
