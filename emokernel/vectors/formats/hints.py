"""`Hints`: what the reader of a file knows of it that the file does not say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emokernel.choices import SITE
from emokernel.errors import EmokernelError
from emokernel.vectors.named_vectors import NamedVectors


@dataclass(frozen=True)
class Hints:
    """What the caller knows of files that do not say it themselves.

    names: the emotions, in the order of the files or of the tensor's second dimension.
    site: "attention" or "block".
    num_layers: L of the model; otherwise one more than the highest layer of the file.
    layer: that of files with one vector ``[d]``, or ``[1, d]``, for each emotion.
    prefix: what the names of all files begin with and those of the emotions do not.
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
