"""What emokernel's own files say of their vectors beside the tensors, and the seal over both.

A record is texts by key: the format and its version, the names (JSON), the site, the number of
layers, the hidden size, the provenance, the diagnostics and the calibration (JSON, the last two if
there are any) and the checksum. All texts are ASCII, so that every format can hold them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from emokernel.choices import SITE
from emokernel.errors import EmokernelError
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.formats.files import check_shape
from emokernel.vectors.named_vectors import NamedVectors

FORMAT = "emokernel.emotion_vectors"
VERSION = "2"
# Version 1 had neither diagnostics nor a calibration nor a checksum.
READABLE = ("1", VERSION)


def record_of(vectors: NamedVectors) -> dict[str, str]:
    """The record of ``vectors``, without a checksum; EmokernelError for what JSON cannot say."""
    record = {
        "format": FORMAT,
        "format_version": VERSION,
        "names": json.dumps(vectors.names),
        "site": vectors.site,
        "num_layers": str(vectors.num_layers),
        "hidden_size": str(vectors.hidden_size),
        "provenance": _json(vectors.provenance, "provenance"),
    }
    if vectors.diagnostics:
        record["diagnostics"] = _json(vectors.diagnostics, "diagnostics")
    if vectors.calibration:
        record["calibration"] = _json(vectors.calibration.to_json(), "calibration")
    return record


def _json(content: Mapping[str, Any], name: str) -> str:
    try:
        return json.dumps(dict(content), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise EmokernelError(
            f"the {name} cannot be stored ({error}): use strings, numbers, lists and dicts"
        ) from error


def layers_of(tensor: Tensor) -> dict[int, Tensor]:
    """The layers of ``[L, ...]`` that are stored: those with a bit set (so -0.0 is kept too)."""
    some = tensor.contiguous().view(torch.int32).flatten(1).any(1)
    return {layer: tensor[layer].contiguous() for layer in some.nonzero().flatten().tolist()}


def sealed(record: Mapping[str, str], layers: Mapping[int, Tensor]) -> dict[str, str]:
    """The record with the checksum over all of its texts and the bytes of the stored layers."""
    return {**record, "checksum": _checksum(record, layers)}


def _checksum(record: Mapping[str, str], layers: Mapping[int, Tensor]) -> str:
    texts = sorted((key, text) for key, text in record.items() if key != "checksum")
    sha = hashlib.sha256(json.dumps(texts).encode())
    for layer in sorted(layers):
        sha.update(f"{layer} {list(layers[layer].shape)}".encode())
        sha.update(layers[layer].numpy().astype("<f4").tobytes())
    return sha.hexdigest()


def is_record(record: Mapping[str, str]) -> bool:
    """Whether these texts are a record of emokernel's."""
    return record.get("format") == FORMAT


def check_record(record: Mapping[str, str], layers: Mapping[int, Tensor], shape: list[str]) -> None:
    """EmokernelError unless the record is whole and fits the stored ``{layer: tensor}``.

    shape: the record's sizes that the tensor of a layer has, ``["names", "hidden_size"]`` for
    ``[E, d]``.
    """
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
    sizes = {"names": len(names), "hidden_size": int(record["hidden_size"])}
    expected = [sizes[size] for size in shape]
    for layer, tensor in layers.items():
        if not 0 <= layer < int(record["num_layers"]) or list(tensor.shape) != expected:
            raise EmokernelError(
                f"layer {layer} of shape {list(tensor.shape)} does not fit {record['num_layers']}"
                f" layers of shape {expected}: damaged; restore the file"
            )
    checksum = record.get("checksum")
    if (checksum is None and version != "1") or (
        checksum is not None and checksum != _checksum(record, layers)
    ):
        raise EmokernelError("damaged: the checksum does not fit the content; restore the file")


def restore(record: Mapping[str, str], layers: Mapping[int, Tensor], stored: int) -> NamedVectors:
    """The vectors of a checked record and its ``{layer: [E, d]}``, of files of ``stored`` bytes."""
    names = _loaded(record, "names", list)
    shape = int(record["num_layers"]), len(names), int(record["hidden_size"])
    check_shape(shape, stored)
    tensor = torch.zeros(shape, dtype=torch.float32)
    for layer, rows in layers.items():
        tensor[layer] = rows
    provenance = _loaded(record, "provenance", dict)
    diagnostics = _loaded(record, "diagnostics", dict) if "diagnostics" in record else {}
    calibration = None
    if "calibration" in record:
        calibration = Calibration.from_json(_loaded(record, "calibration", dict))
    return NamedVectors(tuple(names), tensor, record["site"], provenance, diagnostics, calibration)


def _loaded(record: Mapping[str, str], key: str, kind: type) -> Any:
    content = json.loads(record[key])
    if not isinstance(content, kind):
        raise EmokernelError(f"damaged: the {key} are no {kind.__name__}; restore the file")
    return content
