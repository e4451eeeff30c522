"""The native file of emotion vectors: safetensors.

One fp32 tensor ``layer.N`` ``[E, d]`` per layer that has vectors; the metadata is the record of
`emokernel.vectors.formats.record`.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from emokernel.atomic import replacing
from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.formats.files import existing, refusing
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.formats.record import (
    check_record,
    is_record,
    layers_of,
    record_of,
    restore,
    sealed,
)
from emokernel.vectors.named_vectors import NamedVectors


def write(vectors: NamedVectors, path: Path) -> None:
    """Write ``vectors``; an existing file is replaced only once the new one is complete."""
    layers = layers_of(vectors.tensor)
    metadata = sealed(record_of(vectors), layers)
    tensors = {f"layer.{layer}": rows for layer, rows in layers.items()}
    with replacing(path) as unfinished:
        save_file(tensors, unfinished, metadata=metadata)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file written by `write`. FileNotFoundError or VectorsFileError if that fails."""
    existing(path)
    with refusing(path, "safetensors"):
        with safe_open(path, framework="pt") as file:
            record = file.metadata() or {}
            if not is_record(record):
                raise VectorsFileError(
                    f"{path} is a safetensors file but holds no emotion vectors of emokernel;"
                    " make one with EmotionVectors.extract or EmotionVectors.from_tensors"
                )
            layers = dict(_layer(key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
        check_record(record, layers, ["names", "hidden_size"])
        return hints.agree(restore(record, layers, path.stat().st_size))


def _layer(key: str, rows: Tensor) -> tuple[int, Tensor]:
    number = re.fullmatch(r"layer\.(0|[1-9][0-9]{0,8})", key)
    if number is None or rows.dtype != torch.float32:
        raise EmokernelError(f"{key!r} of {rows.dtype} does not fit layer.N of fp32: restore it")
    return int(number[1]), rows
