"""Vectors as one dict of values, which .npz files and files of torch.save hold.

``{"vectors": [L, E, d] fp32, "names": [E names], "site": site, "metadata": record}``, the record
of `emokernel.vectors.formats.record`. A dict made by hand may leave out the metadata and the site,
or be ``{emotion: [L, d]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from emokernel.errors import EmokernelError
from emokernel.vectors.emotion_vectors import EmotionVectors
from emokernel.vectors.formats.foreign import Hints, assemble, of_tensor
from emokernel.vectors.formats.record import (
    check_record,
    is_record,
    layers_of,
    record_of,
    restore,
    sealed,
)

_KEYS = {"vectors", "names", "site", "metadata"}


def bundle_of(vectors: EmotionVectors) -> dict[str, Any]:
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
) -> EmotionVectors:
    """The vectors of a dict read from ``path``; EmokernelError if it is none of those above."""
    if "vectors" not in content:
        return _by_emotion(content, path, hints, method)
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
        told = [name.rstrip("\0") for name in vectors.names]  # as numpy ends its texts
        if vectors.tensor.shape != tensor.shape or vectors.site != site or names not in (
            told, list(vectors.names)
        ):  # fmt: skip
            raise EmokernelError("damaged: names, site or shape are not those of its metadata")
        return hints.agree(vectors)
    if names is not None and not (
        isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    ):
        raise EmokernelError("its 'names' must be a list of strings")
    told = replace(hints, names=hints.names or names, site=hints.site or site)
    return of_tensor(tensor, path, told, method=method)


def _by_emotion(
    content: Mapping[Any, Any], path: Path, hints: Hints, method: str
) -> EmotionVectors:
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.dim() != 2:
            shape = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise EmokernelError(
                f"{name!r} is {shape}, which is no vectors: an emotion needs a tensor [layers,"
                " hidden size]"
            )
    names = hints.names or list(content)
    if len(names) != len(content):
        raise EmokernelError(f"{len(names)} names for {len(content)} emotions: name each of them")
    rows = {
        name: dict(enumerate(tensor)) for name, tensor in zip(names, content.values(), strict=True)
    }
    return assemble(rows, dict.fromkeys(rows, path), hints, method=method)
