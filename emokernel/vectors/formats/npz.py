"""Bundles of numpy arrays: .npz files.

Written here: ``vectors`` [L, E, d] fp32, ``names`` [E], ``site``, and ``metadata``, the record of
`emokernel.vectors.formats.record` as JSON. Read besides: ``vectors`` and ``names`` with or without
``site``, and one array ``[L, d]`` for each emotion.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from emokernel.errors import EmokernelError
from emokernel.vectors.emotion_vectors import EmotionVectors
from emokernel.vectors.formats.bundle import bundle_of, from_bundle
from emokernel.vectors.formats.files import existing, open_archive, refusing, replacing
from emokernel.vectors.formats.foreign import Hints
from emokernel.vectors.formats.npy import array_of, floats

_METHOD = "read from a .npz file"


def write(vectors: EmotionVectors, path: Path) -> None:
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


def read(path: Path, hints: Hints) -> EmotionVectors:
    """Read a bundle."""
    existing(path)
    with refusing(path, "npz"):
        with open_archive(path) as archive:
            arrays = {}
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise EmokernelError(f"{member[:80]!r} in it is no array: give a .npz file")
                arrays[member.removesuffix(".npy")] = array_of(archive.read(member))
        content = {name: _plain(name, array) for name, array in arrays.items()}
        return from_bundle(content, path, hints, method=_METHOD)


def _plain(name: str, array: np.ndarray) -> Any:
    """What `from_bundle` takes: texts as str, list and dict, all else as a tensor."""
    if array.dtype.kind != "U":
        return floats(array, repr(name))
    if name == "metadata":
        return json.loads(str(array))
    return [str(text) for text in array] if array.ndim else str(array)
