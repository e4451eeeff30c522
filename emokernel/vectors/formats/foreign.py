"""Vectors from files that hold tensors and little else: names and layers are found beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.emotion_vectors import EmotionVectors, check_site
from emokernel.vectors.formats.files import check_shape, total_bytes


@dataclass(frozen=True)
class Hints:
    """What the caller knows of files that do not say it themselves.

    names: the emotions, in the order of the files or of the tensor's second dimension.
    site: "attention" or "block".
    num_layers: L of the model; otherwise one more than the highest layer of the file.
    prefix: what the names of all files begin with and those of the emotions do not.
    """

    names: Sequence[str] | None = None
    site: str | None = None
    num_layers: int | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.site is not None:
            check_site(self.site)
        if self.num_layers is not None and self.num_layers < 1:
            raise EmokernelError(f"num_layers must be at least 1, got {self.num_layers}")

    def agree(self, vectors: EmotionVectors) -> EmotionVectors:
        """``vectors`` of a file that says all itself; EmokernelError if it says something else."""
        told = {"names": self.names and tuple(self.names), "site": self.site}
        for key, value in (told | {"num_layers": self.num_layers}).items():
            if value is not None and value != getattr(vectors, key):
                raise EmokernelError(
                    f"the file says its own {key}, {getattr(vectors, key)}: leave out {value}"
                )
        return vectors


def warn_of_losses(vectors: EmotionVectors, kind: str, site: str) -> None:
    """Warn of what is lost in files that hold tensors alone and are read as of ``site``."""
    lost = [name for name in ("provenance", "diagnostics", "calibration") if getattr(vectors, name)]
    if vectors.site != site:
        lost.insert(0, f"the site {vectors.site!r} (say it when you read them)")
    if vectors.names != tuple(sorted(vectors.names)):
        lost.insert(0, "the order of the emotions (they are read by name)")
    if lost:
        warnings.warn(f"{kind} files cannot hold: {', '.join(lost)}", stacklevel=5)


def emotion_of(path: Path, prefix: str) -> str:
    """The emotion that a file is named after."""
    name = path.stem
    if not name.startswith(prefix) or name == prefix:
        raise VectorsFileError(
            f"{path}: no name of an emotion behind the prefix {prefix!r}: give the part that the"
            " names of all files begin with"
        )
    return name.removeprefix(prefix)


def emotions_of(paths: Sequence[Path], hints: Hints) -> dict[str, Path]:
    """``{emotion: file}``, from the hint or the names of the files."""
    names = hints.names or [emotion_of(path, hints.prefix) for path in paths]
    if len(names) != len(paths):
        raise EmokernelError(f"{len(names)} names for {len(paths)} files: name each file's emotion")
    files: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if name in files:
            raise VectorsFileError(f"{files[name]} and {path} are both files of {name!r}: give one")
        files[name] = path
    return files


def assemble(
    rows: Mapping[str, Mapping[int, Tensor]],
    files: Mapping[str, Path],
    hints: Hints,
    *,
    method: str,
    site: str = "block",
    more: Mapping[str, Any] | None = None,
) -> EmotionVectors:
    """Vectors of ``{emotion: {layer: [d]}}``, read from ``{emotion: file}``.

    method and more go into the provenance; layers that are not there are zero.
    """
    first = next(iter(rows))
    width = len(next(iter(rows[first].values())))
    highest = max(rows, key=lambda name: max(rows[name]))
    layers = hints.num_layers or max(rows[highest]) + 1
    if max(rows[highest]) >= layers:
        raise VectorsFileError(
            f"{files[highest]}: there is no layer {max(rows[highest])} in {layers} layers: correct"
            " the file or num_layers"
        )
    for name, of_layer in rows.items():
        for layer, row in of_layer.items():
            if row.shape != (width,):
                raise VectorsFileError(
                    f"{files[name]}: layer {layer} has {row.numel()} numbers, in {files[first]}"
                    f" layer {next(iter(rows[first]))} has {width}: they belong to two models"
                )
    paths = sorted(set(files.values()))
    check_shape((layers, len(rows), width), total_bytes(paths))
    tensor = torch.zeros(layers, len(rows), width, dtype=torch.float32)
    for emotion, of_layer in enumerate(rows.values()):
        for layer, row in of_layer.items():
            tensor[layer, emotion] = row
    told = {name: str(path) for name, path in files.items()}
    provenance = {"method": method, "files": told, **(more or {})}
    return EmotionVectors(tuple(rows), tensor, hints.site or site, provenance)


def of_tensor(tensor: Tensor, path: Path, hints: Hints, *, method: str) -> EmotionVectors:
    """Vectors of a bare tensor ``[L, E, d]``, whose names the hints must hold."""
    if tensor.dim() != 3 or not hints.names or len(hints.names) != tensor.shape[1]:
        raise EmokernelError(
            f"a tensor of shape {list(tensor.shape)} does not say its emotions: say as many names"
            " as its second dimension is long"
        )
    rows = {name: dict(enumerate(tensor[:, at])) for at, name in enumerate(hints.names)}
    return assemble(rows, dict.fromkeys(rows, path), hints, method=method)
