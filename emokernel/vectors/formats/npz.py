"""Bundles of numpy arrays: .npz files.

Written here: ``vectors`` [L, E, d] fp32, ``names`` [E], ``site``, and ``metadata``, the record of
`emokernel.vectors.formats.record` as JSON. Read besides: ``vectors`` and ``names`` with or without
``site``, one array ``[L, d]`` for each emotion, ``[d]`` for each layer of the emotion that the file
is named after, or its only array.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from emokernel.atomic import replacing
from emokernel.errors import EmokernelError
from emokernel.vectors.formats.bundle import bundle_of, from_bundle
from emokernel.vectors.formats.files import existing, open_archive, refusing
from emokernel.vectors.formats.foreign import of_bare
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.formats.npy import array_of, floats
from emokernel.vectors.named_vectors import NamedVectors

_METHOD = "read from a .npz file"


def write(vectors: NamedVectors, path: Path) -> None:
    """Write the whole of ``vectors``."""
    bundle = bundle_of(vectors)
    arrays = {
        "vectors": bundle["vectors"].numpy(),
        "names": np.array(bundle["names"], dtype=np.str_),
        "site": np.array(bundle["site"]),
        "metadata": np.array(json.dumps(bundle["metadata"])),
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a bundle."""
    existing(path)
    with refusing(path, "npz"):
        with open_archive(path) as archive:
            arrays = {}
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise EmokernelError(f"{member[:80]!r} in it is no array: give a .npz file")
                with archive.open(member) as file:
                    array = array_of(file, archive.getinfo(member).file_size)
                arrays[member.removesuffix(".npy")] = array
        content = {name: _plain(name, array) for name, array in arrays.items()}
        if content.keys() == {"arr_0"} and isinstance(content["arr_0"], Tensor):
            return of_bare(content["arr_0"], path, hints, method=_METHOD)
        # numpy.savez(path, array, array) calls them so
        unnamed = [name for name in content if re.fullmatch("arr_[0-9]+", name)]
        if unnamed and len(unnamed) == len(content) and not hints.names:
            raise EmokernelError(
                f"its arrays have no names but {', '.join(unnamed)[:80]}: say the names of the"
                " emotions"
            )
        return from_bundle(content, path, hints, method=_METHOD)


def _plain(name: str, array: np.ndarray) -> Any:
    """What `from_bundle` takes: texts as str, list and dict, all else as a tensor."""
    if array.dtype.kind != "U":
        return floats(array, repr(name))
    if name == "metadata":
        return json.loads(str(array))
    return [str(text) for text in array] if array.ndim else str(array)
