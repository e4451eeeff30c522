"""The native file of emotion vectors: safetensors.

One fp32 tensor ``layer.N`` ``[E, d]`` per layer that has vectors; the metadata holds the format,
the names, the site, the number of layers, the hidden size, the provenance and, if there are any,
the diagnostics and the calibration. Version 1 knew neither.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.emotion_vectors import EmotionVectors

FORMAT = "emokernel.emotion_vectors"
VERSION = "2"
READABLE = ("1", VERSION)


def save(vectors: EmotionVectors, path: str | PathLike[str]) -> None:
    """Write ``vectors``; an existing file is replaced only once the new one is complete."""
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "format_version": VERSION,
        "names": json.dumps(vectors.names),
        "site": vectors.site,
        "num_layers": str(vectors.num_layers),
        "hidden_size": str(vectors.hidden_size),
        "provenance": json.dumps(dict(vectors.provenance), sort_keys=True),
    }
    if vectors.diagnostics:
        metadata["diagnostics"] = json.dumps(dict(vectors.diagnostics), sort_keys=True)
    if vectors.calibration:
        metadata["calibration"] = json.dumps(vectors.calibration.to_json(), sort_keys=True)
    tensors = {f"layer.{n}": vectors.tensor[n].float().contiguous() for n in vectors.layers}
    unfinished = path.with_name(path.name + ".part")
    save_file(tensors, unfinished, metadata=metadata)
    unfinished.replace(path)


def load(path: str | PathLike[str]) -> EmotionVectors:
    """Read a file written by `save`. FileNotFoundError or VectorsFileError if that fails."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of emotion vectors: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise VectorsFileError(
                    f"{path} is a safetensors file but holds no emotion vectors of emokernel;"
                    " make one with EmotionVectors.extract or EmotionVectors.from_tensors"
                )
            if metadata.get("format_version") not in READABLE:
                raise VectorsFileError(
                    f"{path} has format version {metadata.get('format_version')}, this emokernel"
                    f" reads up to version {VERSION}: install a newer emokernel"
                )
            return _read(file, metadata)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, VectorsFileError):
            raise
        raise VectorsFileError(
            f"{path} is damaged or no safetensors file ({error}); restore or extract it again"
        ) from error


def _read(file: safe_open, metadata: dict[str, str]) -> EmotionVectors:
    names = tuple(json.loads(metadata["names"]))
    num_layers, hidden_size = int(metadata["num_layers"]), int(metadata["hidden_size"])
    tensor = torch.zeros(num_layers, len(names), hidden_size)
    for key in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
        layer = int(key.removeprefix("layer."))
        if not 0 <= layer < num_layers or tensor[layer].shape != file.get_tensor(key).shape:
            raise EmokernelError(f"{key!r} does not fit {num_layers} layers of width {hidden_size}")
        tensor[layer] = file.get_tensor(key)
    calibration = metadata.get("calibration")
    return EmotionVectors(
        names,
        tensor,
        metadata["site"],
        json.loads(metadata["provenance"]),
        json.loads(metadata.get("diagnostics", "{}")),
        Calibration.from_json(json.loads(calibration)) if calibration else None,
    )
