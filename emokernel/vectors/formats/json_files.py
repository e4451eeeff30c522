"""Vectors in JSON files, the form in which arXiv 2502.04075 publishes its own.

One file for each emotion, ``{"0": [[d numbers]], "1": [[d numbers]], ...}``: the layer's number and
one row of as many numbers as the residual stream is wide. They are differences of the attention's
output, so their site is "attention" unless another is said. Of vectors it holds nothing else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from emokernel.errors import VectorsFileError
from emokernel.vectors.formats.files import (
    MOST_LAYERS,
    emotion_files,
    existing,
    refusing,
    write_each,
)
from emokernel.vectors.formats.foreign import assemble, emotions_of, warn_of_losses
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.named_vectors import NamedVectors

_LARGEST = torch.finfo(torch.float32).max
_LARGEST_FILE = 2**27  # bytes; 128 layers of 16384 numbers, written out, are 50 million

Paths = str | PathLike[str] | Iterable[str | PathLike[str]]


def write(vectors: NamedVectors, path: Path) -> None:
    """Write a file, or a folder of ``<emotion>.json``, all layers; see `files.write_each`.

    Warns of what is lost. Every fp32 number is written with as many digits as it takes to read the
    same bits back.
    """
    warn_of_losses(vectors, "JSON", "attention")

    def write_one(number: int, file: Path) -> None:
        rows = vectors.tensor[:, number].tolist()
        content = {str(layer): [row] for layer, row in enumerate(rows)}
        file.write_text(json.dumps(content), "utf-8")

    write_each(vectors.names, path, ".json", write_one)


def read(source: Paths, hints: Hints) -> NamedVectors:
    """Read `EmotionVectors.from_json`'s files."""
    files = emotions_of(_files(source), hints)
    rows = {name: _read(path) for name, path in files.items()}
    _check_alike(rows, files)
    tensors = {
        name: {layer: torch.tensor(row, dtype=torch.float32) for layer, row in of_layer.items()}
        for name, of_layer in rows.items()
    }
    method = "read from JSON files, layer number -> [[numbers]], as arXiv 2502.04075 has them"
    first = next(iter(files.values()))
    with refusing(first, "JSON"):
        return assemble(tensors, files, hints, method=method, site="attention")


def _files(source: Paths) -> list[Path]:
    if isinstance(source, (str, PathLike)):
        return emotion_files(Path(source), ".json")
    files = [Path(path) for path in source]
    if not files:
        raise VectorsFileError("no JSON files given: pass a folder of them, or their paths")
    return files


def _read(path: Path) -> dict[int, list[float]]:
    """The rows of one file by layer."""
    size = existing(path).stat().st_size
    if size > _LARGEST_FILE:
        raise VectorsFileError(
            f"{path} has {size} bytes, more than the vectors of an emotion: it is something else"
        )
    try:
        content = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise VectorsFileError(f"{path} is no JSON file ({error})") from error
    if not isinstance(content, _Pairs) or not content:
        raise VectorsFileError(f'{path} needs layers with their vectors, {{"0": [[numbers]], ...}}')
    rows: dict[int, list[float]] = {}
    for key, value in content:
        if not re.fullmatch("0|[1-9][0-9]{0,8}", key) or int(key) >= MOST_LAYERS:
            raise VectorsFileError(
                f"{path}: {key!r} is no layer number: layers are counted from 0, written plainly"
            )
        if int(key) in rows:
            raise VectorsFileError(f"{path}: layer {key} stands there twice: remove one")
        try:
            rows[int(key)] = _row(value)
        except ValueError as error:
            raise VectorsFileError(f"{path}: layer {key} {error}") from None
        first = next(iter(rows))
        if len(rows[int(key)]) != len(rows[first]):
            raise VectorsFileError(
                f"{path}: layer {key} has {len(rows[int(key)])} numbers, layer {first} has"
                f" {len(rows[first])}"
            )
    return rows


class _Pairs(list):
    """A JSON object as (key, value) pairs: a dict would forget keys that stand there twice."""


def _row(value: Any) -> list[float]:
    """The one row of a layer; ValueError with the end of a sentence about that layer."""
    nested = isinstance(value, list) and all(type(row) is list for row in value)
    if not nested or isinstance(value, _Pairs) or not value:
        raise ValueError("needs one row of numbers in a list, [[numbers]]")
    if len(value) > 1:
        raise ValueError(f"has {len(value)} rows: it needs one")
    if not value[0]:
        raise ValueError("has no numbers")
    return [_number(place, number) for place, number in enumerate(value[0])]


def _number(place: int, value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"holds {str(value)[:40]!r} in place {place}, which is no number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value} in place {place}: numbers must be finite")
    if abs(value) > _LARGEST:
        raise ValueError(f"holds a number in place {place} that is too large for fp32")
    return float(value)


def _check_alike(rows: dict[str, dict[int, list[float]]], paths: dict[str, Path]) -> None:
    """VectorsFileError unless all files have the same layers and width."""
    first = next(iter(rows))
    for name in rows:
        for one, other in ((first, name), (name, first)):
            missing = sorted(rows[one].keys() - rows[other].keys())
            if missing:
                raise VectorsFileError(
                    f"{paths[other]}: layer {missing[0]} is missing, {paths[one]} has it: all files"
                    " need the same layers"
                )
        for layer, row in rows[name].items():
            if len(row) != len(rows[first][layer]):
                raise VectorsFileError(
                    f"{paths[name]}: layer {layer} has {len(row)} numbers, in {paths[first]} it has"
                    f" {len(rows[first][layer])}"
                )
