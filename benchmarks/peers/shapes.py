"""What is measured: models as folders that every version of transformers reads, vectors, cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from emokernel.demo.models import load_vectors
from emokernel.demo.named import NAMED
from emokernel.vectors import EmotionVectors

WEIGHT = 0.4
# Of the blocks, 0-based, without the last one, before whose end some peers cannot steer.
LAYERS = {"smollm2": range(8, 16), "embedded": range(1, 5)}
FIRST = "joy", "sadness"
Mix = dict[str, float]


@dataclass(frozen=True)
class Case:
    """``batch`` sequences, the first ``share`` of them steered, by ``mixes`` different mixes."""

    batch: int
    share: float = 1.0
    mixes: int = 1
    law: str = "add"

    @property
    def alike(self) -> bool:
        """Whether all rows ask for the same."""
        return self.share == 1 and self.mixes == 1

    def rows(self, names: Sequence[str]) -> list[Mix | None]:
        """What each sequence asks for, of the emotions ``names``."""
        steered = round(self.share * self.batch)
        mixes = []
        for number in range(min(self.mixes, steered)):
            cycle, place = divmod(number, len(names))
            mixes.append({names[place]: WEIGHT * (1 - 0.5 * cycle * len(names) / self.mixes)})
        return [mixes[n % len(mixes)] if n < steered else None for n in range(self.batch)]

    def __str__(self) -> str:
        some = "" if self.share == 1 else f", {self.share:.0%} steered"
        return f"{self.law}, batch {self.batch}{some}, {self.mixes} mix{'es' * (self.mixes > 1)}"

    def fields(self) -> dict[str, Any]:
        """As rows of results have it."""
        return asdict(self)


def cases(
    batches: Sequence[int], shares: Sequence[float], mixes: Sequence[int], laws: Sequence[str]
) -> list[Case]:
    """One thing is varied at a time: all steered by one mix; then a share, mixes, another law."""
    found: dict[Case, None] = {}
    for batch in batches:
        if 1 in shares and 1 in mixes and "add" in laws:
            found[Case(batch)] = None
        for share in shares:
            if 0 < round(share * batch) < batch and "add" in laws:
                found[Case(batch, share)] = None
        for count in mixes:
            if 1 < count <= batch and "add" in laws:
                found[Case(batch, mixes=count)] = None
        if "preserve" in laws:
            found[Case(batch, law="preserve")] = None
    return sorted(found, key=lambda case: case.law)  # a model is loaded anew for another law


def prompts(batch: int, tokens: int, vocabulary: int) -> list[list[int]]:
    """Random token ids, the same every time, another prompt in each row."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, vocabulary, (batch, tokens), generator=generator).tolist()


@dataclass(frozen=True)
class Model:
    """A folder, vectors in a file {emotion: [L, d]}, and the layers that they steer."""

    name: str
    folder: Path
    vectors: Path
    layers: list[int]
    emotions: list[str]
    vocabulary: int
    gguf: dict[str, Any] | None = None  # {"model": file, "vectors": {emotion: file}}


def prepare(name: str, into: Path, *, gguf: bool = False) -> Model:
    """The model ``name`` as a folder for peers; with ``gguf`` also as GGUF files, for llama.cpp."""
    source, folder = Path(NAMED[name].find()), into / name
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    config = readable((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    layers = list(LAYERS[name])
    table = filled(load_vectors(name), layers)
    save_file(table, into / f"{name}.safetensors")
    return Model(
        name,
        folder,
        into / f"{name}.safetensors",
        layers,
        list(table),
        config["vocab_size"],
        gguf_files(folder, table, layers) if gguf else None,
    )


def gguf_files(folder: Path, table: dict[str, Tensor], layers: Sequence[int]) -> dict[str, Any]:
    """The model of ``folder`` in fp32 and its vectors, beside it, as llama.cpp reads them."""
    from gguf_models import write_f32

    model = write_f32(folder, folder.with_name(f"{folder.name}.gguf"))
    files = folder.with_name(f"{folder.name}-vectors")
    vectors = EmotionVectors.from_tensors(table, site="block").at_layers(layers)
    vectors.save(files, format="gguf")
    return {"model": str(model), "vectors": {name: str(files / f"{name}.gguf") for name in table}}


def readable(text: str) -> dict[str, Any]:
    """A config that transformers 5 wrote, with what 4 looks for where it looks."""
    config = json.loads(text)
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
    return config


def filled(vectors: EmotionVectors, layers: Sequence[int]) -> dict[str, Tensor]:
    """{emotion: [L, d] fp32}, those of `FIRST` first, with no zero vector at the steered layers.

    One that is zero takes the vector of the nearest layer below (above, if none is): every peer
    does the work of all layers, and zero vectors may be skipped by some.
    """
    table = {}
    for name in [*FIRST, *(each for each in vectors.names if each not in FIRST)]:
        rows = vectors[name].float().clone()
        there = [layer for layer in range(len(rows)) if rows[layer].any()]
        for layer in layers:
            if layer not in there:
                below = [other for other in there if other < layer]
                rows[layer] = rows[below[-1] if below else there[0]]
        table[name] = rows.contiguous()
    return table
