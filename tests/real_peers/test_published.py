"""Files that others publish, where a folder of them is said: nothing of them is kept here.

EMOKERNEL_EASYSTEER: a clone of github.com/ZJU-REAL/EasySteer. EMOKERNEL_EMOTION_VECTORS: a clone of
github.com/xuanfengzu/EmotionVector.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError

# {beginning of the path: (layer, layers)} of files with one vector.
ONE_LAYER = {
    "replications/bipo/": (15, 32),
    "replications/sharp/": (10, 32),
    "vectors/": (0, 28),
}


def said(variable: str) -> Path:
    """The folder that a variable of the environment names; without it the test is skipped."""
    if variable not in os.environ:
        pytest.skip(f"{variable} NAMES NO FOLDER: none of these files was read")
    return Path(os.environ[variable])


def files_of(folder: Path, *endings: str) -> list[Path]:
    """Those that are there whole; of a clone without Git LFS some are mere pointers."""
    files = [path for path in folder.rglob("*") if path.suffix in endings and path.is_file()]
    return sorted(path for path in files if not path.read_bytes().startswith(b"version https"))


def test_every_gguf_file_of_easysteer():
    files = files_of(said("EMOKERNEL_EASYSTEER"), ".gguf")
    assert files
    shapes: dict[tuple[int, ...], int] = {}
    for path in files:
        directions = {
            int(tensor.name.removeprefix("direction.")): np.array(tensor.data)
            for tensor in gguf.GGUFReader(path).tensors
        }
        vectors = EmotionVectors.load(path)
        assert vectors.names == (path.stem,)
        assert vectors.site == "block"
        assert {0, *vectors.layers} <= set(directions)
        for layer, row in directions.items():
            assert np.array_equal(vectors[path.stem][layer].numpy(), row), (path, layer)
        shape = (min(directions), max(directions), vectors.hidden_size)
        shapes[shape] = shapes.get(shape, 0) + 1
    for (first, last, width), count in shapes.items():
        print(
            f"{count} files: direction.{first} to direction.{last} of {width} numbers, bit for bit"
        )


def test_every_tensor_file_of_easysteer():
    """Vectors of one layer, which has to be said; networks of ReFT, which are no vectors."""
    folder = said("EMOKERNEL_EASYSTEER")
    read, refused = [], {}
    for path in files_of(folder, ".pt", ".bin", ".npy"):
        name = path.relative_to(folder).as_posix()
        layer = next((of for start, of in ONE_LAYER.items() if name.startswith(start)), None)
        hints = dict(zip(("layer", "num_layers"), layer or (), strict=False))
        try:
            vectors = EmotionVectors.load(path, **hints)
        except VectorsFileError as error:
            refused[name] = str(error)
            continue
        one = np.load(path) if path.suffix == ".npy" else torch.load(path, weights_only=True)
        expected = torch.as_tensor(one).detach().float().reshape(-1)
        assert torch.equal(vectors[path.stem][layer[0]], expected)
        read.append(name)
    print(f"read: {', '.join(read)}")
    for name, error in refused.items():
        print(f"refused: {name}: {error[-160:]}")
    assert all("is no vectors" in error or "could run code" in error for error in refused.values())
    assert not any(name.startswith(tuple(ONE_LAYER)) for name in refused)
    assert len(read) >= 5


def test_the_json_files_of_the_emotion_vectors_paper():
    folder = said("EMOKERNEL_EMOTION_VECTORS") / "EMVector"
    for model in sorted(path for path in folder.iterdir() if files_of(path, ".json")):
        files = files_of(model, ".json")
        prefix = files[0].stem.rpartition("_")[0] + "_"
        vectors = EmotionVectors.from_json(model, prefix=prefix)
        assert vectors.site == "attention"
        assert set(vectors.names) == {path.stem.removeprefix(prefix) for path in files}
        for path in files:
            rows = json.loads(path.read_text("utf-8"))
            expected = torch.tensor([rows[str(layer)][0] for layer in range(len(rows))])
            assert torch.equal(vectors[path.stem.removeprefix(prefix)], expected)
        print(f"{model.name}: {', '.join(vectors.names)}, {vectors.num_layers} layers of"
              f" {vectors.hidden_size} numbers, bit for bit")  # fmt: skip
