"""Files of torch.save (.pt, .pth, .bin), read with ``weights_only``: no code of a file ever runs.

Written here: the dict of `emokernel.vectors.formats.bundle`. Read besides: ``{emotion: [L, d]}``,
``{layer: [d]}``, ``[L, d]`` and ``[d]`` (with its layer said) of the emotion that the file is named
after, and ``[L, E, d]`` with the names said.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from emokernel.atomic import replacing
from emokernel.errors import EmokernelError
from emokernel.vectors.formats.bundle import bundle_of, from_bundle
from emokernel.vectors.formats.files import existing, open_archive, refusing
from emokernel.vectors.formats.foreign import of_bare
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.named_vectors import NamedVectors

_METHOD = "read from a file of torch.save"


def write(vectors: NamedVectors, path: Path) -> None:
    """Write the whole of ``vectors``."""
    # An open file: the archive would be named after the path of an unfinished one.
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.save(bundle_of(vectors), file)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file of torch.save; VectorsFileError for one whose loading would run code."""
    existing(path)
    with refusing(path, "torch"):
        content = _load(path)
        if isinstance(content, Tensor):
            content = _checked(content, "the tensor", path)
            return of_bare(content, path, hints, method=_METHOD)
        if not isinstance(content, Mapping) or not content:
            raise EmokernelError(
                f"a {type(content).__name__} without tensors: save"
                " {emotion: tensor [layers, hidden size]} with torch.save"
            )
        tensors = [value for value in content.values() if isinstance(value, Tensor)]
        _check_bytes(tensors, "its tensors together", path)
        content = {
            key: _checked(value, repr(key), path) if isinstance(value, Tensor) else value
            for key, value in content.items()
        }
        return from_bundle(content, path, hints, method=_METHOD)


def _load(path: Path) -> Any:
    try:
        with open_archive(path) as archive:
            damaged = archive.testzip()
    except BadZipFile as error:
        raise EmokernelError(
            f"damaged, or of the format before torch 1.6 ({error}): load it with torch.load where"
            " you trust it and save it again"
        ) from error
    if damaged is not None:
        raise EmokernelError(f"damaged: the checksum of {damaged!r} is wrong; restore the file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        raise EmokernelError(
            f"not loaded, since that could run code of the file ({', '.join(unsafe)}):"
            " load it where you trust it and save {emotion: tensor [layers, hidden size]}"
        ) from error


def _checked(tensor: Tensor, name: str, path: Path) -> Tensor:
    """fp32 and contiguous; EmokernelError for what is no plain tensor of the file's own bytes."""
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise EmokernelError(f"{name} is no plain tensor of floating numbers: save it as fp32")
    _check_bytes([tensor], name, path)
    return tensor.detach().to(torch.float32).contiguous()


def _check_bytes(tensors: Iterable[Tensor], name: str, path: Path) -> None:
    """EmokernelError for tensors that say one number of the file many times."""
    if sum(each.numel() * each.element_size() for each in tensors) > path.stat().st_size:
        raise EmokernelError(f"{name} would be larger than the file: save it with .clone()")
