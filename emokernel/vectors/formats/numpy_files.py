"""Files of numpy: .npy, an array, and .npz, arrays by name. Nothing is ever unpickled.

A .npy file holds what `foreign.from_tensor` takes, and a folder of them is a set. A .npz file that
is written here holds the dict of `native`, its metadata as JSON; those of others what
`foreign.from_dict` takes, or one array without a name.
"""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats.files import emotion_files, open_archive, refusing
from emokernel.vectors.formats.foreign import (
    Hints,
    assemble,
    emotions_of,
    from_tensor,
    rows_of,
)
from emokernel.vectors.formats.native import from_content, sealed


def write_npy(vectors: NamedVectors, number: int, path: Path) -> None:
    """Write ``[L, d]`` of one emotion."""
    with path.open("wb") as target:  # numpy would add .npy to a path
        np.save(target, vectors.tensor[:, number].numpy(), allow_pickle=False)


def read_npy(path: Path, hints: Hints) -> NamedVectors:
    """Read a file, or all of a folder, each an emotion."""
    tensors: dict[Path, Tensor] = {}
    for file in emotion_files(path, ".npy"):
        with refusing(file, "npy"), file.open("rb") as content:
            array = _array_of(content, file.stat().st_size)
            if not isinstance(array, Tensor):
                raise EmokernelError("the array holds strings, no floating numbers")
            tensors[file] = array
    method = "read from .npy files"
    with refusing(path, "npy"):
        if len(tensors) == 1:
            ((file, tensor),) = tensors.items()
            return from_tensor(tensor, file, hints, method)
        emotions = emotions_of(list(tensors), hints)
        if not hints.names and all(name.isdecimal() for name in emotions):
            raise EmokernelError(
                "its files are called by numbers: stack layers into one array [layers, hidden"
                " size], or say the names of emotions"
            )
        rows = {
            name: rows_of(tensors[file], f"{file.name} has the shape", hints)
            for name, file in emotions.items()
        }
        return assemble(rows, emotions, hints, method)


def write_npz(vectors: NamedVectors, path: Path) -> None:
    """Write the whole of ``vectors``."""
    arrays = {
        "vectors": vectors.tensor.numpy(),
        "names": np.array(vectors.names, dtype=np.str_),
        "site": np.array(vectors.site),
        "metadata": np.array(json.dumps(sealed(vectors)[0])),
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_npz(path: Path, hints: Hints) -> NamedVectors:
    """Read arrays by name."""
    method = "read from a .npz file"
    with refusing(path, "npz"):
        content: dict[str, Any] = {}
        with open_archive(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    raise EmokernelError(f"{name[:80]!r} in it is no array: give a .npz file")
                with archive.open(member) as file:
                    content[name] = _array_of(file, member.file_size)
        if isinstance(metadata := content.get("metadata"), str):
            content["metadata"] = json.loads(metadata)
        if content.keys() == {"arr_0"} and isinstance(content["arr_0"], Tensor):
            return from_tensor(content["arr_0"], path, hints, method)
        # numpy.savez(path, array, array) calls them so
        if content and not hints.names and all(re.fullmatch("arr_[0-9]+", n) for n in content):
            raise EmokernelError(
                f"its arrays have no names but {', '.join(content)[:80]}: say the names of the"
                " emotions"
            )
        return from_content(content, path, hints, method)


def _array_of(file: IO[bytes], size: int) -> Any:
    """The array of a .npy file of ``size`` bytes: an fp32 tensor, or texts as str and list.

    Raises EmokernelError for Python objects and for a header that says another size, before the
    array is read; numpy itself would ask for the memory first.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # others have headers of up to 4 GiB, for arrays of many named fields
        raise EmokernelError(f"a .npy file of version {version}: save it again with numpy.save")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
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
    array = flat.reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "U":
        return array.tolist()
    with np.errstate(over="ignore"):  # infinities are refused with the vectors
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
