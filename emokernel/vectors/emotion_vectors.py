"""`EmotionVectors`: named vectors for each layer of one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.vectors.algebra import Algebra
from emokernel.vectors.calibration import Calibration

SITES = ("attention", "block")


def check_site(site: str) -> str:
    """``site`` itself, or EmokernelError if there is no such site."""
    if site not in SITES:
        raise EmokernelError(f"unknown site {site!r}: choose one of {', '.join(SITES)}")
    return site


@dataclass(frozen=True, eq=False)
class EmotionVectors(Algebra):
    """Emotion vectors ``[L, E, d]`` fp32 of a model with L layers and hidden size d.

    ``site`` says which space they live in: "attention", differences of the attention branch's own
    output, or "block", differences of the residual stream after the block. A layer without vectors
    is all zero. ``provenance`` names what they were made from, ``diagnostics`` what was measured of
    them when they were extracted (`emokernel.lab.extract.diagnostics`), ``calibration`` what
    strength 1.0 means; without one it means the vectors as they are.

    Immutable: the tensor is a copy of its own, and every operation (`emokernel.vectors.algebra`)
    gives new vectors.
    """

    names: tuple[str, ...]
    tensor: Tensor
    site: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_site(self.site)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "tensor", self.tensor.detach().to("cpu", torch.float32, copy=True))
        if self.tensor.dim() != 3 or self.tensor.shape[1] != len(self.names):
            raise EmokernelError(
                f"emotion vectors need a tensor [layers, {len(self.names)} emotions, hidden size],"
                f" got {list(self.tensor.shape)}"
            )
        if len(set(self.names)) != len(self.names) or not all(self.names):
            raise EmokernelError("emotion names must be distinct and not empty")
        if not torch.isfinite(self.tensor).all():
            raise EmokernelError("emotion vectors must be finite: the tensor holds inf or nan")
        if self.calibration and len(self.calibration.profile) != self.tensor.shape[0]:
            raise EmokernelError(
                f"the calibration is for {len(self.calibration.profile)} layers, the vectors have"
                f" {self.tensor.shape[0]}"
            )

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        site: str = "block",
        provenance: Mapping[str, Any] | None = None,
    ) -> EmotionVectors:
        """From ``{name: [L, d]}``, one vector per layer; all of one shape, any floating dtype."""
        if not tensors:
            raise EmokernelError("no vectors given: pass {name: tensor [layers, hidden size]}")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise EmokernelError(f"every emotion needs one tensor [layers, d], got {shapes}")
        stacked = torch.stack([tensor.detach().float().cpu() for tensor in tensors.values()], dim=1)
        return cls(tuple(tensors), stacked, site, dict(provenance or {}))

    @classmethod
    def extract(cls, model: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> EmotionVectors:
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
    ) -> EmotionVectors:
        """Read a file of any format (docs/formats.md), or a folder with a file for each emotion.

        ``format`` is found from the content unless it is said; ``names``, ``site``, ``layer`` (of
        files with one vector ``[d]``) and ``num_layers`` (L of the model, where a file holds some
        of its layers) are for files that do not say them. Raises FileNotFoundError, or
        VectorsFileError with what is wrong with the file.
        """
        from emokernel.vectors.formats import read

        return read(path, format=format, names=names, site=site, layer=layer, num_layers=num_layers)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str | PathLike[str],
        filename: str | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> EmotionVectors:
        """Read vectors from a repository of the Hub, or a local folder.

        ``filename``: the file, or the folder with a file for each emotion, within the repository;
        without it the only one there. ``options``: those of `load`. The provenance names the
        commit. Raises EmokernelError if the repository, the file or the network is not there.
        """
        from emokernel.vectors.formats.hub import from_pretrained

        return from_pretrained(repo_id, filename, revision=revision, token=token, **options)

    @classmethod
    def from_json(
        cls,
        source: str | PathLike[str] | Iterable[str | PathLike[str]],
        *,
        num_layers: int | None = None,
        prefix: str = "",
    ) -> EmotionVectors:
        """Read the files of arXiv 2502.04075: for each emotion ``{"0": [[d numbers]], ...}``.

        ``source``: a folder, of which all ``.json`` files are read in the order of their names, or
        paths of files. An emotion is called what its file is called, less ``prefix``:
        "qwen2.5_joy.json" with the prefix "qwen2.5_" is "joy". All files need the same layers;
        layers that they lack are zero. L is ``num_layers``, or one more than the highest layer.
        The site is "attention", the provenance names the files.

        Raises FileNotFoundError, or VectorsFileError naming the file, the layer and the fault.
        """
        from emokernel.vectors.formats.foreign import Hints
        from emokernel.vectors.formats.json_files import read

        return read(source, Hints(num_layers=num_layers, prefix=prefix))

    def save(self, path: str | PathLike[str], *, format: str | None = None) -> None:
        """Write a file in the format of its ending, safetensors if it is none that is known.

        ``format`` says it where the ending does not: "gguf" and "json" write a folder with a file
        for each emotion. A warning tells what the format cannot hold (docs/formats.md).
        """
        from emokernel.vectors.formats import write

        write(self, path, format=format)

    def with_calibration(self, calibration: Calibration | None) -> EmotionVectors:
        """The same vectors with another calibration, or with none."""
        return replace(self, calibration=calibration)

    def digest(self) -> str:
        """sha256 of names, site and numbers."""
        told = json.dumps([self.names, self.site, list(self.tensor.shape)]).encode()
        return hashlib.sha256(told + self.tensor.numpy().tobytes()).hexdigest()

    @property
    def num_layers(self) -> int:
        """L, the number of layers of the model."""
        return self.tensor.shape[0]

    @property
    def hidden_size(self) -> int:
        """d, the width of the residual stream."""
        return self.tensor.shape[2]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have a vector other than zero."""
        return tuple(self.tensor.flatten(1).any(1).nonzero().flatten().tolist())

    def index(self, name: str) -> int:
        """The number of an emotion; UnknownEmotionError with the nearest spelling otherwise."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownEmotionError(name, self.names) from None

    def __getitem__(self, name: str) -> Tensor:
        """The vectors ``[L, d]`` of one emotion."""
        return self.tensor[:, self.index(name)]
