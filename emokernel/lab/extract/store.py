"""The store of an extraction on disk: settings, sampled answers, one row per text and layer.

It is the checkpoint as well: what it holds is never computed again. The rows are memory mapped, so
that memory stays flat however many texts there are.

    journal.jsonl    what was asked for, and the model's own answers (`lab.measure.journal`)
    rows.f32         fp32 [layers, texts, d], the activations
    lengths.f32      fp32 [layers, texts], the mean length of the residual stream's rows
    done.u8          uint8 [texts], 1 where both are on the disk
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emokernel.atomic import UNFINISHED, replacing
from emokernel.errors import EmokernelError
from emokernel.lab.measure.journal import Journal

_JOURNAL = "journal.jsonl"
_DONE = "done.u8"
_ARRAYS = ("rows.f32", "lengths.f32", _DONE)
_FILES = (_JOURNAL, *_ARRAYS)


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
        begun = (self.folder / _JOURNAL).is_file()
        if not begun and self.folder.exists() and any(self.folder.iterdir()):
            raise EmokernelError(f"{folder} is no store of an extraction: choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder / _JOURNAL, settings)

    def answers(self) -> dict[int, dict[str, Any]]:
        """The answers so far, by the number of their prompt."""
        return {answer["prompt"]: answer for _, answer in self._journal.items()}

    def append(self, answers: Iterable[Mapping[str, Any]]) -> None:
        """Keep the answers of a batch, on the disk when this returns."""
        self._journal.put({str(answer["prompt"]): dict(answer) for answer in answers})

    def allocate(self, layers: int, texts: int, width: int) -> None:
        """Make room for the rows, or find them again; OSError if the disk is too full."""
        shapes = ((layers, texts, width), (layers, texts), (texts,))
        kinds = (np.float32, np.float32, np.uint8)
        if not all((self.folder / name).is_file() for name in _ARRAYS):
            (self.folder / _DONE).unlink(missing_ok=True)  # no marks of rows that are gone
        self.rows, self.lengths, self.done = (
            _mapped(self.folder / name, shape, kind)
            for name, shape, kind in zip(_ARRAYS, shapes, kinds, strict=True)
        )

    def write(self, texts: Sequence[int], rows: np.ndarray, lengths: np.ndarray) -> None:
        """Write ``rows [layers, batch, d]`` and ``lengths [layers, batch]`` of these texts.

        Both are on the disk before the texts are marked: after a crash no mark stands without them.
        """
        for layer, values in enumerate(rows):
            self.rows[layer, texts] = values
        self.lengths[:, texts] = lengths
        self.rows.flush()
        self.lengths.flush()
        self.done[texts] = 1


def remove(folder: Path) -> None:
    """Remove a store, if there is one; EmokernelError if the folder holds anything else."""
    folder = Path(folder)
    if not folder.exists():
        return
    names = {each.name for each in folder.iterdir() if not each.name.startswith(UNFINISHED)}
    foreign = sorted(names - set(_FILES))
    if foreign:
        raise EmokernelError(
            f"{folder} holds what no extraction wrote ({foreign[0]}): remove it by hand"
        )
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


def _mapped(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not path.is_file():
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    if path.stat().st_size != size:
        raise EmokernelError(
            f"{path} is damaged: begin anew with --restart (restart=True), or remove its folder"
        )
    return np.memmap(path, kind, "r+", shape=shape)
