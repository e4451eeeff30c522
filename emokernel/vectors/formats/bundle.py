"""Vectors as one dict of values, which .npz files and files of torch.save hold.

``{"vectors": [L, E, d] fp32, "names": [E names], "site": site, "metadata": record}``, the record
of `emokernel.vectors.formats.record`. A dict made by hand may leave out the metadata and the site,
or be ``{emotion: [L, d]}``, or ``{layer: [d]}`` of the emotion that the file is named after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.formats.foreign import assemble, emotions_of, of_tensor, rows_of
from emokernel.vectors.formats.hints import Hints
from emokernel.vectors.formats.record import (
    check_record,
    is_record,
    layers_of,
    record_of,
    restore,
    sealed,
)
from emokernel.vectors.named_vectors import NamedVectors

_KEYS = {"vectors", "names", "site", "metadata"}


def bundle_of(vectors: NamedVectors) -> dict[str, Any]:
    """The dict of ``vectors``."""
    record = sealed(record_of(vectors), layers_of(vectors.tensor))
    return {
        "vectors": vectors.tensor,
        "names": list(vectors.names),
        "site": vectors.site,
        "metadata": record,
    }


def from_bundle(
    content: Mapping[Any, Any], path: Path, hints: Hints, *, method: str
) -> NamedVectors:
    """The vectors of a dict read from ``path``; EmokernelError if it is none of those above."""
    if "vectors" not in content:
        return _by_name(content, path, hints, method)
    tensor, names, site = (content.get(key) for key in ("vectors", "names", "site"))
    unknown = content.keys() - _KEYS
    if unknown or not isinstance(tensor, Tensor) or tensor.dim() != 3:
        raise EmokernelError(
            f"with 'vectors' [layers, emotions, hidden size] only {sorted(_KEYS - {'vectors'})} can"
            f" stand, not {sorted(map(str, unknown))}: damaged, or leave that out"
        )
    if "metadata" in content:
        record = content["metadata"]
        if not (isinstance(record, dict) and all(isinstance(t, str) for t in record.values())):
            raise EmokernelError("damaged: its metadata are no record of emokernel; restore it")
        if not is_record(record):
            raise EmokernelError("its metadata are no record of emokernel: leave them out")
        check_record(record, layers_of(tensor), ["names", "hidden_size"])
        vectors = restore(record, layers_of(tensor), path.stat().st_size)
        trimmed = [name.rstrip("\0") for name in vectors.names]  # as numpy ends its texts
        if vectors.tensor.shape != tensor.shape or vectors.site != site or names not in (
            trimmed, list(vectors.names)
        ):  # fmt: skip
            raise EmokernelError("damaged: names, site or shape are not those of its metadata")
        return hints.agree(vectors)
    if names is not None and not (
        isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    ):
        raise EmokernelError("its 'names' must be a list of strings")
    hints = replace(hints, names=hints.names or names, site=hints.site or site)
    return of_tensor(tensor, path, hints, method=method)


def _by_name(content: Mapping[Any, Any], path: Path, hints: Hints, method: str) -> NamedVectors:
    if not content:
        raise EmokernelError("nothing is in it: restore it")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise EmokernelError(
                f"{key!r} is {type(value).__name__}, which is no vectors: an emotion needs a tensor"
                " [layers, hidden size]"
            )
    if all(map(_is_number, content)):
        if all(tensor.dim() == 1 or tensor.shape[:-1] == (1,) for tensor in content.values()):
            return _by_layer(content, path, hints, method)
        if not hints.names:
            key, tensor = next(iter(content.items()))
            raise EmokernelError(
                f"{key!r} is {list(tensor.shape)}, which is no vectors of the layer {key}: an"
                " emotion needs a name; say names (--names)"
            )
    names = hints.names or list(content)
    if len(names) != len(content):
        raise EmokernelError(f"{len(names)} names for {len(content)} emotions: name each of them")
    rows = {
        name: _rows(key, tensor, hints)
        for name, (key, tensor) in zip(names, content.items(), strict=True)
    }
    return assemble(rows, dict.fromkeys(rows, path), hints, method=method)


def _is_number(key: Any) -> bool:
    """Whether a key is the number of a layer, or its text: ``numpy.savez`` knows no other keys."""
    return not isinstance(key, bool) and bool(re.fullmatch("0|[1-9][0-9]{0,8}", str(key)))


def _by_layer(content: Mapping[Any, Tensor], path: Path, hints: Hints, method: str) -> NamedVectors:
    rows = {int(key): tensor.reshape(-1) for key, tensor in content.items()}
    if len(rows) < len(content):
        raise EmokernelError("a layer is there twice: give it once")
    emotions = emotions_of([path], hints)
    return assemble(dict.fromkeys(emotions, rows), emotions, hints, method=method)


def _rows(key: Any, tensor: Tensor, hints: Hints) -> dict[int, Tensor]:
    if not isinstance(key, str):
        raise EmokernelError(f"{key!r} is no layer number and no name: give {{emotion: tensor}}")
    said = f"{key!r} is no layer number, and " if tensor.dim() == 1 else ""
    return rows_of(tensor, f"{said}{key!r} is", hints)
