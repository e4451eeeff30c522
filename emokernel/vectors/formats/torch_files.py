"""Files of torch.save (.pt, .pth, .bin), read with ``weights_only``: no code of a file ever runs.

Those that are written here hold the dict of `native`; those of others what `foreign.from_tensor` or
`foreign.from_dict` takes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.formats.files import open_archive, refusing
from emokernel.vectors.formats.foreign import Hints
from emokernel.vectors.formats.native import from_content, sealed


def write(vectors: NamedVectors, path: Path) -> None:
    """Write the whole of ``vectors``."""
    parts = {"vectors": vectors.tensor, "names": list(vectors.names), "site": vectors.site}
    # An open file: the archive would be named after the path of an unfinished one.
    with path.open("wb") as file:
        torch.save({**parts, "metadata": sealed(vectors)[0]}, file)


def read(path: Path, hints: Hints) -> NamedVectors:
    """Read a file of torch.save; VectorsFileError for one whose loading would run code."""
    with refusing(path, "torch"):
        content = _load(path)
        bare = isinstance(content, Tensor)
        parts = {"the tensor": content} if bare else content
        if not isinstance(parts, Mapping) or not parts:
            raise EmokernelError(
                f"a {type(content).__name__} without tensors: save"
                " {emotion: tensor [layers, hidden size]} with torch.save"
            )
        parts = _checked(parts, path.stat().st_size)
        whole = parts["the tensor"] if bare else parts
        return from_content(whole, path, hints, "read from a file of torch.save")


def _load(path: Path) -> object:
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


def _checked(content: Mapping[Any, Any], size: int) -> dict[Any, Any]:
    """With fp32 and contiguous tensors; EmokernelError for what are no plain tensors of the file.

    Many tensors of one storage would say one number of the file many times.
    """
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if sum(each.numel() * each.element_size() for each in tensors.values()) > size:
        raise EmokernelError("its tensors together would be larger than the file: save .clone()s")
    for key, each in tensors.items():
        if each.layout != torch.strided or each.is_meta or not each.is_floating_point():
            raise EmokernelError(f"{key!r} is no plain tensor of floating numbers: save it as fp32")
        tensors[key] = each.detach().to(torch.float32).contiguous()
    return {**content, **tensors}
