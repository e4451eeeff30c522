"""Bare numpy arrays: .npy files.

``[L, d]`` is one emotion, called what its file is called; ``[L, E, d]`` needs the names said,
``[d]`` its layer. A folder of them is a set. Of vectors such a file holds nothing else.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.formats.files import emotion_files, refusing, write_each
from emokernel.vectors.formats.foreign import (
    assemble,
    emotions_of,
    of_bare,
    rows_of,
    warn_of_losses,
)
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.named_vectors import NamedVectors

_LONGEST_HEADER = 2**16  # bytes; numpy itself refuses much shorter ones


def write(vectors: NamedVectors, path: Path) -> None:
    """Write a file ``[L, d]``, or a folder of ``<emotion>.npy``; see `files.write_each`."""
    warn_of_losses(vectors, ".npy", "block")

    def write_one(number: int, file: Path) -> None:
        with file.open("wb") as target:  # numpy would add .npy to a path
            np.save(target, vectors.tensor[:, number].numpy(), allow_pickle=False)

    write_each(vectors.names, path, ".npy", write_one)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file, or all of a folder, each an emotion."""
    files = emotion_files(path, ".npy")
    tensors = []
    for file in files:
        with refusing(file, "numpy"), file.open("rb") as content:
            tensors.append(floats(array_of(content, file.stat().st_size), "the array"))
    method = "read from .npy files"
    with refusing(path, "numpy"):
        if len(files) == 1:
            return of_bare(tensors[0], files[0], hints, method=method)
        emotions = emotions_of(files, hints)
        if not hints.names and all(name.isdecimal() for name in emotions):
            raise EmokernelError(
                "its files are called by numbers: stack layers into one array [layers, hidden"
                " size], or say the names of emotions"
            )
        rows = {
            name: rows_of(tensor, f"{file.name} has the shape", hints)
            for (name, file), tensor in zip(emotions.items(), tensors, strict=True)
        }
        return assemble(rows, emotions, hints, method=method)


class _Header:
    """The begin of a file, of which no more is read at once than a header has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise EmokernelError(f"damaged: a header of {size} bytes; restore the file")
        return self._file.read(size)


def array_of(file: IO[bytes], size: int) -> np.ndarray:
    """The array of a .npy file of ``size`` bytes, never by unpickling.

    Raises EmokernelError for Python objects and for a header that says another size, before the
    array is read; numpy itself would ask for the memory first.
    """
    header = _Header(file)
    version = np.lib.format.read_magic(header)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise EmokernelError(f"a .npy file of version {version}: save it again with numpy.save")
    shape, fortran, dtype = readers[version](header)
    if dtype.kind not in "fU":
        raise EmokernelError(
            f"an array of {dtype.name}, where vectors are floating numbers (and objects are never"
            " unpickled): save an array of float32"
        )
    claimed, held = prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != held or min(shape, default=0) < 0:
        raise EmokernelError(f"damaged: the array needs {claimed} bytes, there are {held}")
    content = file.read(held)
    if len(content) != held:
        raise EmokernelError(f"damaged: the array needs {held} bytes, there are {len(content)}")
    flat = np.frombuffer(content, dtype) if held else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def floats(array: np.ndarray, name: str) -> Tensor:
    """As an fp32 tensor; EmokernelError for an array of texts."""
    if array.dtype.kind != "f":
        raise EmokernelError(f"{name} holds {array.dtype.name}, no floating numbers")
    with np.errstate(over="ignore"):  # infinities are refused with the vectors
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32).copy())
