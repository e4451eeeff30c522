"""Files of torch.save (.pt, .pth, .bin), read with ``weights_only``: no code of a file ever runs.

Written here: the dict of `emokernel.vectors.formats.bundle`. Read besides: ``{emotion: [L, d]}``,
``{layer: [d]}`` and ``[L, d]`` of the emotion that the file is named after, and ``[L, E, d]`` with
the names said.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.emotion_vectors import EmotionVectors
from emokernel.vectors.formats.bundle import bundle_of, from_bundle
from emokernel.vectors.formats.files import existing, open_archive, refusing, replacing
from emokernel.vectors.formats.foreign import Hints, assemble, emotions_of, of_tensor

_METHOD = "read from a file of torch.save"


def write(vectors: EmotionVectors, path: Path) -> None:
    """Write the whole of ``vectors``."""
    with replacing(path) as unfinished:
        torch.save(bundle_of(vectors), unfinished)


def read(path: Path, hints: Hints) -> EmotionVectors:
    """Read a file of torch.save; VectorsFileError for one whose loading would run code."""
    existing(path)
    with refusing(path, "torch"):
        content = _load(path)
        if isinstance(content, Tensor):
            content = _checked(content, "the tensor", path)
            if content.dim() == 3:
                return of_tensor(content, path, hints, method=_METHOD)
            content = dict(enumerate(content))
        if not isinstance(content, Mapping) or not content:
            raise EmokernelError(
                f"a {type(content).__name__} without tensors: save {{emotion: tensor [layers,"
                " hidden size]}} with torch.save"
            )
        content = {
            key: _checked(value, repr(key), path) if isinstance(value, Tensor) else value
            for key, value in content.items()
        }
        if all(isinstance(value, Tensor) and value.dim() == 1 for value in content.values()):
            emotions = emotions_of([path], hints)
            rows = {_layer(key): row for key, row in content.items()}
            if len(rows) < len(content):
                raise EmokernelError("a layer is there twice: give it once")
            return assemble(dict.fromkeys(emotions, rows), emotions, hints, method=_METHOD)
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
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise EmokernelError(f"{name} is larger than the file: save it with .contiguous()")
    return tensor.detach().to(torch.float32).contiguous()


def _layer(key: Any) -> int:
    if isinstance(key, bool) or not re.fullmatch("0|[1-9][0-9]{0,8}", str(key)):
        raise EmokernelError(
            f"{key!r} is no layer number, and its tensor has one dimension: an emotion needs"
            " [layers, hidden size]"
        )
    return int(key)
