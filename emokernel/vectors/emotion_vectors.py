"""`EmotionVectors`: named vectors for each layer of one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor, nn

from emokernel.errors import EmokernelError
from emokernel.vectors import formats
from emokernel.vectors.algebra import NamedVectors
from emokernel.vectors.calibration import Calibration
from emokernel.vectors.formats import hub


class EmotionVectors(NamedVectors):
    """Emotion vectors ``[L, E, d]`` fp32 of a model with L layers and hidden size d.

    What they hold, promise and can be made into is said by `NamedVectors`.
    """

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        site: str = "block",
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """From ``{name: [L, d]}``, one vector per layer; all of one shape, any floating dtype."""
        if not tensors:
            raise EmokernelError("no vectors given: pass {name: tensor [layers, hidden size]}")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise EmokernelError(f"every emotion needs one tensor [layers, d], got {shapes}")
        stacked = torch.stack([tensor.detach().float().cpu() for tensor in tensors.values()], dim=1)
        return cls(tuple(tensors), stacked, site, dict(provenance or {}))

    @classmethod
    def extract(cls, model: nn.Module, tokenizer: Any, *args: Any, **kwargs: Any) -> EmotionVectors:
        """Extract vectors from a model; arguments as in `emokernel.lab.extract.extract`."""
        from emokernel.lab.extract import extract

        return extract(model, tokenizer, *args, **kwargs)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        format: str | None = None,
        names: Sequence[str] | None = None,
        site: str | None = None,
        layer: int | None = None,
        num_layers: int | None = None,
        prefix: str = "",
    ) -> Self:
        """Read a file of any format (docs/formats.md), or a folder with a file for each emotion.

        ``format`` is that of the ending unless it is said, safetensors where that says none;
        ``names``, ``site``, ``layer`` (of files with one vector ``[d]``) and ``num_layers`` (L of
        the model, where a file holds some of its layers) are for files that do not say them,
        ``prefix`` is what the names of a folder's files begin with and those of the emotions do
        not. Raises FileNotFoundError, VectorsFileError with what is wrong with the file, or
        EmokernelError for what contradicts it.
        """
        vectors = formats.read(
            path, format=format, names=names, site=site, layer=layer, num_layers=num_layers,
            prefix=prefix,
        )  # fmt: skip
        return cls(**vars(vectors))

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str | PathLike[str],
        filename: str | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> Self:
        """Read vectors from a repository of the Hub, or a local folder.

        ``filename``: the file, or the folder with a file for each emotion, within the repository;
        without it the only one there. ``options``: those of `load`. The provenance names the
        commit. Raises EmokernelError if the repository, the file or the network is not there.
        """
        path, source = hub.located(repo_id, filename, revision, token)
        vectors = cls.load(path, **options)
        return replace(vectors, provenance={**vectors.provenance, **source})

    @classmethod
    def from_json(
        cls, path: str | PathLike[str], *, num_layers: int | None = None, prefix: str = ""
    ) -> Self:
        """`load` of the files of arXiv 2502.04075: for each emotion ``{"0": [[d numbers]], ...}``.

        "qwen2.5_joy.json" with the prefix "qwen2.5_" is "joy". All files need the same layers;
        those that they lack are zero. The site is "attention", the provenance names the files.
        """
        return cls.load(path, format="json", num_layers=num_layers, prefix=prefix)

    def save(self, path: str | PathLike[str], *, format: str | None = None) -> None:
        """Write a file in the format of its ending, safetensors if it is none that is known.

        ``format`` says it where the ending does not: "gguf" and "json" write a folder with a file
        for each emotion. A warning tells what the format cannot hold (docs/formats.md);
        EmokernelError for vectors that it cannot hold at all.
        """
        formats.write(self, path, format=format)

    def with_calibration(self, calibration: Calibration | None) -> Self:
        """The same vectors with another calibration, or with none."""
        return replace(self, calibration=calibration)

    def digest(self) -> str:
        """sha256 of names, site and numbers."""
        header = json.dumps([self.names, self.site, list(self.tensor.shape)]).encode()
        return hashlib.sha256(header + self.tensor.numpy().tobytes()).hexdigest()
