"""Vectors from files that hold tensors and little else: names and layers are found beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emokernel.choices import SITE
from emokernel.errors import EmokernelError, VectorsFileError
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats.files import check_shape, emotion_named

Rows = Mapping[int, Tensor]


@dataclass(frozen=True)
class Hints:
    """What the caller knows of files that do not say it themselves.

    names: the emotions, in the order of the files or of the tensor's second dimension.
    site: "attention" or "block".
    num_layers: L of the model; otherwise one more than the highest layer of the file.
    prefix: what the names of all files begin with and those of the emotions do not.
    layer: that of files with one vector ``[d]``, or ``[1, d]``, for each emotion.
    """

    names: Sequence[str] | None = None
    site: str | None = None
    num_layers: int | None = None
    prefix: str = ""
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.site is not None:
            SITE.check(self.site)
        if self.num_layers is not None and self.num_layers < 1:
            raise EmokernelError(f"num_layers must be at least 1, got {self.num_layers}")
        if self.layer is not None and self.layer < 0:
            raise EmokernelError(f"layer must be at least 0, got {self.layer}")

    def agree(self, vectors: NamedVectors) -> NamedVectors:
        """``vectors`` of a file that says all itself; EmokernelError if it says something else."""
        said = {"names": self.names and tuple(self.names), "site": self.site}
        for key, value in (said | {"num_layers": self.num_layers}).items():
            if value is not None and value != getattr(vectors, key):
                raise EmokernelError(
                    f"the file says its own {key}, {getattr(vectors, key)}: leave out {value}"
                )
        self.agree_on_layers(vectors.layers)
        return vectors

    def agree_on_layers(self, layers: Iterable[int]) -> None:
        """EmokernelError for a layer that is said and is not the only one of the file's own."""
        if self.layer is not None and {self.layer} != (own := set(layers)):
            raise EmokernelError(
                f"the file says its own layers, {sorted(own)}: leave out layer {self.layer}"
            )


def emotions_of(paths: Sequence[Path], hints: Hints) -> dict[str, Path]:
    """``{emotion: file}``, from the hint or the names of the files."""
    names = hints.names or [_emotion_of(path, hints.prefix) for path in paths]
    if len(names) != len(paths):
        raise EmokernelError(f"{len(names)} names for {len(paths)} files: name each file's emotion")
    files: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if name in files:
            raise VectorsFileError(f"{files[name]} and {path} are both files of {name!r}: give one")
        files[name] = path
    return files


def _emotion_of(path: Path, prefix: str) -> str:
    name = emotion_named(path)
    if not name.startswith(prefix) or name == prefix:
        raise VectorsFileError(
            f"{path}: no name of an emotion behind the prefix {prefix!r}: give the part that the"
            " names of all files begin with"
        )
    return name.removeprefix(prefix)


def assemble(
    rows: Mapping[str, Rows],
    files: Mapping[str, Path],
    hints: Hints,
    method: str,
    *,
    site: str = "block",
    more: Mapping[str, object] | None = None,
) -> NamedVectors:
    """Vectors of ``{emotion: {layer: [d]}}``, read from ``{emotion: file}``.

    method and more go into the provenance; layers that are not there are zero.
    """
    first, *_ = rows
    width = len(next(iter(rows[first].values())))
    highest = max(rows, key=lambda name: max(rows[name]))
    layers = hints.num_layers or max(rows[highest]) + 1
    if max(rows[highest]) >= layers:
        row_0 = " (a row 0 of embeddings must be left out)" if len(rows[highest]) > layers else ""
        raise VectorsFileError(
            f"{files[highest]}: there is no layer {max(rows[highest])} in {layers} layers: correct"
            f" the file{row_0} or num_layers"
        )
    check_shape((layers, len(rows), width), set(files.values()))
    tensor = torch.zeros(layers, len(rows), width, dtype=torch.float32)
    for emotion, (name, of_layer) in enumerate(rows.items()):
        hints.agree_on_layers(of_layer)
        for layer, row in of_layer.items():
            if row.shape != (width,):
                raise VectorsFileError(
                    f"{files[name]}: layer {layer} has {row.numel()} numbers, in {files[first]}"
                    f" layer {next(iter(rows[first]))} has {width}: they belong to two models"
                )
            tensor[layer, emotion] = row
    sources = {name: str(path) for name, path in files.items()}
    provenance = {"method": method, "files": sources, **(more or {})}
    return NamedVectors(tuple(rows), tensor, hints.site or site, provenance)


def is_row(tensor: Tensor) -> bool:
    """Whether a tensor is one vector, ``[d]`` or ``[1, d]``."""
    return tensor.dim() == 1 or tensor.shape[:-1] == (1,)


def rows_of(tensor: Tensor, what: str, hints: Hints) -> Rows:
    """``{layer: [d]}`` of an emotion's tensor: ``[L, d]``, or of the layer that the hints say.

    EmokernelError, ``what`` and the shape, for others and for a vector whose layer is not said.
    """
    if hints.layer is not None and is_row(tensor):
        return {hints.layer: tensor.reshape(-1)}
    if tensor.dim() != 2:
        one = (
            "; of a vector of one layer say the layer and how many the model has, by layer and"
            " num_layers (--layer, --num-layers)"
        )
        raise EmokernelError(
            f"{what} {list(tensor.shape)}, which is no vectors: an emotion needs [layers, hidden"
            f" size]{one if tensor.dim() == 1 else ''}"
        )
    return dict(enumerate(tensor))


def from_tensor(tensor: Tensor, path: Path, hints: Hints, method: str) -> NamedVectors:
    """Vectors of a tensor alone: ``[L, E, d]`` with the names said, or of the emotion that the file
    is named after ``[L, d]``, or ``[d]`` with its layer said.
    """
    if tensor.dim() != 3:
        emotions = emotions_of([path], hints)
        rows = rows_of(tensor, "the tensor has the shape", hints)
        return assemble(dict.fromkeys(emotions, rows), emotions, hints, method)
    if not hints.names or len(hints.names) != tensor.shape[1]:
        raise EmokernelError(
            f"a tensor of shape {list(tensor.shape)} does not say its emotions: say as many names"
            " as its second dimension is long"
        )
    by_name = {name: rows_of(tensor[:, at], "it is", hints) for at, name in enumerate(hints.names)}
    return assemble(by_name, dict.fromkeys(by_name, path), hints, method)


def from_dict(content: Mapping[Any, object], path: Path, hints: Hints, method: str) -> NamedVectors:
    """Vectors of ``{emotion: [L, d]}``, or ``{layer: [d]}`` of the emotion the file is named after.

    EmokernelError for anything else, or a vector ``[d]`` of an emotion whose layer is not said.
    """
    if not content:
        raise EmokernelError("nothing is in it: restore it")
    tensors: dict[Any, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise EmokernelError(
                f"{key!r} is {type(value).__name__}, which is no vectors: an emotion needs a tensor"
                " [layers, hidden size]"
            )
        tensors[key] = value
    numbered = all(map(is_layer, tensors))
    if numbered and all(map(is_row, tensors.values())):
        rows = {int(key): tensor.reshape(-1) for key, tensor in tensors.items()}
        if len(rows) < len(tensors):
            raise EmokernelError("a layer is there twice: give it once")
        emotions = emotions_of([path], hints)
        return assemble(dict.fromkeys(emotions, rows), emotions, hints, method)
    names = hints.names or list(tensors)
    if len(names) != len(tensors):
        raise EmokernelError(f"{len(names)} names for {len(tensors)} emotions: name each of them")
    by_name = {}
    for name, (key, tensor) in zip(names, tensors.items(), strict=True):
        if not isinstance(key, str) or (numbered and not hints.names):
            raise EmokernelError(
                f"{key!r} is {list(tensor.shape)}, which is no vectors of a layer [hidden size]: an"
                " emotion needs a name; say names (--names)"
            )
        by_name[name] = rows_of(tensor, f"{key!r} is", hints)
    return assemble(by_name, dict.fromkeys(by_name, path), hints, method)


def is_layer(key: object) -> bool:
    """Whether a key is the number of a layer, or its text: ``numpy.savez`` knows no other keys."""
    return not isinstance(key, bool) and bool(re.fullmatch("0|[1-9][0-9]{0,8}", str(key)))
