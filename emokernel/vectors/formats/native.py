"""emokernel's own files: the record of what is beside the tensors, the seal over both, safetensors.

A record is texts by key: the format and its version, the names (JSON), the site, the number of
layers, the hidden size, the provenance, the diagnostics and the calibration (JSON, the last two if
there are any) and the checksum. All texts are ASCII, so that every format can hold them. That of a
file with one emotion of several says which, by its number.

A safetensors file has it as its metadata, and one fp32 tensor ``layer.N`` ``[E, d]`` for each layer
that has vectors. Files of numpy and torch have the dict ``{"vectors": [L, E, d] fp32, "names":
[E names], "site": site, "metadata": record}``; one made by hand has no metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from emokernel.choices import SITE
from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.formats.files import check_shape, refusing
from emokernel.vectors.formats.foreign import Hints, from_dict, from_tensor

FORMAT = "emokernel.emotion_vectors"
VERSION = "2"
# Version 1 had neither diagnostics nor a calibration nor a checksum.
READABLE = ("1", VERSION)


def write(vectors: NamedVectors, path: Path) -> None:
    """Write a safetensors file."""
    record, layers = sealed(vectors)
    save_file({f"layer.{layer}": rows for layer, rows in layers.items()}, path, metadata=record)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a safetensors file."""
    with refusing(path, "safetensors"):
        with safe_open(path, framework="pt") as file:
            record = file.metadata() or {}
            if not is_record(record):
                raise VectorsFileError(
                    f"{path} is a safetensors file but holds no emotion vectors of emokernel;"
                    " make one with EmotionVectors.extract or EmotionVectors.from_tensors"
                )
            layers = dict(_layer(key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
        check_record(record, layers)
        return hints.agree(restore(record, layers, [path]))


def _layer(key: str, rows: Tensor) -> tuple[int, Tensor]:
    number = re.fullmatch(r"layer\.(0|[1-9][0-9]{0,8})", key)
    if number is None or rows.dtype != torch.float32:
        raise EmokernelError(f"{key!r} of {rows.dtype} does not fit layer.N of fp32: restore it")
    return int(number[1]), rows


def sealed(
    vectors: NamedVectors, emotion: int | None = None
) -> tuple[dict[str, str], dict[int, Tensor]]:
    """(The record, ``{layer: [E, d]}``, or ``[d]`` of one emotion) of what a file is to hold.

    Layers without a bit set are not stored (-0.0 is). The record's checksum is over all of its
    texts and the bytes of the layers. EmokernelError for what JSON cannot say.
    """
    record = {
        "format": FORMAT,
        "format_version": VERSION,
        "names": json.dumps(vectors.names),
        "site": vectors.site,
        "num_layers": str(vectors.num_layers),
        "hidden_size": str(vectors.hidden_size),
    }
    told = {"provenance": vectors.provenance, "diagnostics": vectors.diagnostics}
    if vectors.calibration:
        told["calibration"] = asdict(vectors.calibration)
    for name, content in told.items():
        try:
            if content or name == "provenance":
                record[name] = json.dumps(dict(content), sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise EmokernelError(
                f"the {name} cannot be stored ({error}): use strings, numbers, lists and dicts"
            ) from error
    if emotion is not None:
        record["emotion"] = str(emotion)
    layers = layers_of(vectors.tensor if emotion is None else vectors.tensor[:, emotion])
    return {**record, "checksum": _checksum(record, layers)}, layers


def layers_of(tensor: Tensor) -> dict[int, Tensor]:
    """The layers of ``[L, ...]`` that have a bit set."""
    some = tensor.contiguous().view(torch.int32).flatten(1).any(1)
    return {layer: tensor[layer].contiguous() for layer in some.nonzero().flatten().tolist()}


def _checksum(record: Mapping[str, str], layers: Mapping[int, Tensor]) -> str:
    texts = sorted((key, text) for key, text in record.items() if key != "checksum")
    sha = hashlib.sha256(json.dumps(texts).encode())
    for layer in sorted(layers):
        sha.update(f"{layer} {list(layers[layer].shape)}".encode())
        sha.update(layers[layer].numpy().astype("<f4").tobytes())
    return sha.hexdigest()


def is_record(record: Mapping[str, object]) -> bool:
    """Whether these are the texts of a record; EmokernelError for one that holds others."""
    if record.get("format") != FORMAT:
        return False
    if not all(isinstance(text, str) for text in record.values()):
        raise EmokernelError("damaged: its metadata are no record of emokernel; restore the file")
    return True


def check_record(record: Mapping[str, str], layers: Mapping[int, Tensor]) -> None:
    """EmokernelError unless the record is whole and fits the stored ``{layer: tensor}``."""
    version = record.get("format_version")
    if version not in READABLE:
        raise EmokernelError(
            f"format version {version}, this emokernel reads up to version {VERSION}: install"
            " a newer emokernel"
        )
    names = _loaded(record, "names", list)
    if not all(isinstance(name, str) for name in names):
        raise EmokernelError("damaged: the names are no strings; restore it")
    SITE.check(record["site"])
    expected = [len(names), int(record["hidden_size"])]
    if "emotion" in record:
        expected = expected[1:]
        if not 0 <= int(record["emotion"]) < len(names):
            raise EmokernelError("damaged: it is of none of its emotions; restore the file")
    for layer, tensor in layers.items():
        if not 0 <= layer < int(record["num_layers"]) or list(tensor.shape) != expected:
            raise EmokernelError(
                f"layer {layer} of shape {list(tensor.shape)} does not fit {record['num_layers']}"
                f" layers of shape {expected}: damaged; restore the file"
            )
    checksum = record.get("checksum", None if version == "1" else "")
    if checksum is not None and checksum != _checksum(record, layers):
        raise EmokernelError("damaged: the checksum does not fit the content; restore the file")


def restore(
    record: Mapping[str, str], layers: Mapping[int, Tensor], files: Iterable[Path]
) -> NamedVectors:
    """The vectors of a checked record and its ``{layer: [E, d]}``, read from ``files``."""
    names = _loaded(record, "names", list)
    shape = int(record["num_layers"]), len(names), int(record["hidden_size"])
    check_shape(shape, files)
    tensor = torch.zeros(shape, dtype=torch.float32)
    for layer, rows in layers.items():
        tensor[layer] = rows
    provenance = _loaded(record, "provenance", dict)
    diagnostics = _loaded(record, "diagnostics", dict) if "diagnostics" in record else {}
    calibration = None
    if "calibration" in record:
        calibration = Calibration(**_loaded(record, "calibration", dict))
    return NamedVectors(tuple(names), tensor, record["site"], provenance, diagnostics, calibration)


def _loaded(record: Mapping[str, str], key: str, kind: type) -> Any:
    content = json.loads(record[key])
    if not isinstance(content, kind):
        raise EmokernelError(f"damaged: the {key} are no {kind.__name__}; restore the file")
    return content


def from_content(
    content: Tensor | Mapping[Any, object], path: Path, hints: Hints, method: str
) -> NamedVectors:
    """The vectors of what a file of numpy or torch holds: that dict, or what others write."""
    if isinstance(content, Tensor):
        return from_tensor(content, path, hints, method)
    if "vectors" not in content:
        return from_dict(content, path, hints, method)
    tensor, names, site = map(content.get, ("vectors", "names", "site"))
    by_hand = content.keys() <= {"vectors", "names", "site"}
    if not by_hand or not isinstance(tensor, Tensor) or tensor.dim() != 3:
        return hints.agree(_from_bundle(content, path))
    if names is not None and not isinstance(names, list):
        raise EmokernelError("its 'names' must be a list of strings")
    said = replace(hints, names=hints.names or names, site=hints.site or site)
    return from_tensor(tensor, path, said, method)


def _from_bundle(bundle: Mapping[Any, object], path: Path) -> NamedVectors:
    tensor, names, site, record = map(bundle.get, ("vectors", "names", "site", "metadata"))
    if len(bundle) != 4 or not isinstance(tensor, Tensor) or tensor.dim() != 3:
        raise EmokernelError(
            "with 'vectors' [layers, emotions, hidden size] only 'names', 'site' and 'metadata' can"
            f" stand, not {sorted(map(str, bundle))}: damaged, or name emotions or layers instead"
        )
    if not isinstance(record, dict) or not is_record(record):
        raise EmokernelError("its metadata are no record of emokernel: restore the file")
    layers = layers_of(tensor)
    check_record(record, layers)
    vectors = restore(record, layers, [path])
    trimmed = [name.rstrip("\0") for name in vectors.names]  # as numpy ends its texts
    if vectors.tensor.shape != tensor.shape or vectors.site != site or names not in (
        trimmed, list(vectors.names)
    ):  # fmt: skip
        raise EmokernelError("damaged: names, site or shape are not those of its metadata")
    return vectors
