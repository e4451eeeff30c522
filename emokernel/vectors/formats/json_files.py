"""Vectors in JSON files, the form in which arXiv 2502.04075 publishes its own.

One file for each emotion, ``{"0": [[d numbers]], "1": [[d numbers]], ...}``: the layer's number and
one row of as many numbers as the residual stream is wide. They are differences of the attention's
output, so their site is "attention" unless another is said. Of vectors it holds nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats.files import MOST_LAYERS, emotion_files, refusing
from emokernel.vectors.formats.foreign import Hints, Rows, assemble, emotions_of, is_layer

SITE = "attention"
_LARGEST = torch.finfo(torch.float32).max
_LARGEST_FILE = 2**27  # bytes; 128 layers of 16384 numbers, written out, are 50 million


def write(vectors: NamedVectors, number: int, path: Path) -> None:
    """Write all layers of one emotion.

    Every fp32 number is written with as many digits as it takes to read the same bits back.
    """
    rows = vectors.tensor[:, number].tolist()
    path.write_text(json.dumps({str(layer): [row] for layer, row in enumerate(rows)}), "utf-8")


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file, or all of a folder, each an emotion."""
    files = emotions_of(emotion_files(path, ".json"), hints)
    rows: dict[str, Rows] = {}
    for name, file in files.items():
        with refusing(file, "JSON"):
            rows[name] = _read(file)
    first = next(iter(rows))
    for name, of_layer in rows.items():
        if different := of_layer.keys() ^ rows[first].keys():
            lacking, having = (name, first) if min(different) in rows[first] else (first, name)
            raise VectorsFileError(
                f"{files[lacking]}: layer {min(different)} is missing, {files[having]} has it: all"
                " files need the same layers"
            )
    method = "read from JSON files, layer number -> [[numbers]], as arXiv 2502.04075 has them"
    with refusing(files[first], "JSON"):
        return assemble(rows, files, hints, method, site=SITE)


def _read(path: Path) -> Rows:
    """``{layer: [d]}`` of one file."""
    if (size := path.stat().st_size) > _LARGEST_FILE:
        raise EmokernelError(
            f"it has {size} bytes, more than the vectors of an emotion: it is something else"
        )
    content = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=unique)
    if not isinstance(content, dict) or not content:
        raise EmokernelError('it needs layers with their vectors, {"0": [[numbers]], ...}')
    rows: dict[int, Tensor] = {}
    for key, value in content.items():
        if not is_layer(key) or int(key) >= MOST_LAYERS:
            raise EmokernelError(
                f"{key!r} is no layer number: layers are counted from 0, written plainly"
            )
        rows[int(key)] = _row(key, value)
    return rows


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; EmokernelError for a key that is given twice, which a dict forgets."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise EmokernelError(f"the key {key[:40]!r} is given twice: keep one")
        content[key] = value
    return content


def _row(key: str, value: object) -> Tensor:
    """``[d]``, the one row of a layer."""
    row = value[0] if type(value) is list and len(value) == 1 else None
    if type(row) is not list or not row:
        raise EmokernelError(f"layer {key} needs one row of numbers in a list, [[numbers]]")
    for place, number in enumerate(row):
        if type(number) not in (int, float) or not abs(number) <= _LARGEST:
            raise EmokernelError(
                f"layer {key} holds {str(number)[:40]!r} in place {place}: it needs finite numbers"
                " that fp32 has"
            )
    return torch.tensor([float(number) for number in row], dtype=torch.float32)
