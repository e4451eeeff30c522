"""Vectors from files that hold tensors and little else: names and layers are found beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.formats.files import check_shape, total_bytes
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.named_vectors import NamedVectors

# What a message says of one vector [d] whose layer nobody said.
ONE_LAYER = (
    "; of a vector of one layer say the layer and how many the model has, by layer and num_layers"
    " (--layer, --num-layers)"
)


def warn_of_losses(vectors: NamedVectors, kind: str, site: str) -> None:
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
) -> NamedVectors:
    """Vectors of ``{emotion: {layer: [d]}}``, read from ``{emotion: file}``.

    method and more go into the provenance; layers that are not there are zero.
    """
    for of_layer in rows.values():
        hints.agree_on_layers(of_layer)
    first = next(iter(rows))
    width = len(next(iter(rows[first].values())))
    highest = max(rows, key=lambda name: max(rows[name]))
    layers = hints.num_layers or max(rows[highest]) + 1
    if max(rows[highest]) >= layers:
        row_0 = " (a row 0 of embeddings must be left out)" if len(rows[highest]) > layers else ""
        raise VectorsFileError(
            f"{files[highest]}: there is no layer {max(rows[highest])} in {layers} layers: correct"
            f" the file{row_0} or num_layers"
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
    sources = {name: str(path) for name, path in files.items()}
    provenance = {"method": method, "files": sources, **(more or {})}
    return NamedVectors(tuple(rows), tensor, hints.site or site, provenance)


def rows_of(tensor: Tensor, what: str, hints: Hints) -> dict[int, Tensor]:
    """``{layer: [d]}`` of an emotion's tensor: ``[L, d]``, or of the layer that the hints say.

    EmokernelError, ``what`` and the shape, for others and for a vector whose layer is not said.
    """
    if hints.layer is not None and (tensor.dim() == 1 or tensor.shape[:-1] == (1,)):
        return {hints.layer: tensor.reshape(-1)}
    if tensor.dim() != 2:
        one = ONE_LAYER if tensor.dim() == 1 else ""
        raise EmokernelError(
            f"{what} {list(tensor.shape)}, which is no vectors: an emotion needs [layers, hidden"
            f" size]{one}"
        )
    return dict(enumerate(tensor))


def of_bare(tensor: Tensor, path: Path, hints: Hints, *, method: str) -> NamedVectors:
    """Vectors of a tensor alone: ``[L, E, d]`` with names, else the emotion the file is named after
    (`rows_of`).
    """
    if tensor.dim() == 3:
        return of_tensor(tensor, path, hints, method=method)
    emotions = emotions_of([path], hints)
    rows = rows_of(tensor, "the tensor has the shape", hints)
    return assemble(dict.fromkeys(emotions, rows), emotions, hints, method=method)


def of_tensor(tensor: Tensor, path: Path, hints: Hints, *, method: str) -> NamedVectors:
    """Vectors of a bare tensor ``[L, E, d]``, whose names the hints must hold."""
    if tensor.dim() != 3 or not hints.names or len(hints.names) != tensor.shape[1]:
        raise EmokernelError(
            f"a tensor of shape {list(tensor.shape)} does not say its emotions: say as many names"
            " as its second dimension is long"
        )
    rows = {name: rows_of(tensor[:, at], "it is", hints) for at, name in enumerate(hints.names)}
    return assemble(rows, dict.fromkeys(rows, path), hints, method=method)
