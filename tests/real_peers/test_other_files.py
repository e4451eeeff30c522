"""Files of programs that steer in ways of their own: those that are read, and what others are told.

Each writes the same numbers, by its own functions, in its own environment.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import write

ROWS = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)


def written(peer, name, folder, **more):
    """What a program writes of `ROWS`, and what it answers."""
    np.save(folder / "rows.npy", ROWS)
    answer = peer("files", {"rows": str(folder / "rows.npy"), "folder": str(folder), **more}, name)
    print(f"{name} {answer['version']}: {', '.join(answer['files'])}")
    return answer


def test_saklas_there_and_back(peer, tmp_path):
    vectors = EmotionVectors.from_tensors({"joy": torch.from_numpy(ROWS)}).at_layers(range(1, 6))
    write(vectors, tmp_path / "ours.gguf", model_hint="llama")
    answer = written(peer, "saklas", tmp_path, ours=str(tmp_path / "ours.gguf"))
    theirs = EmotionVectors.load(tmp_path / "joy.gguf")
    assert torch.equal(theirs["joy"], torch.from_numpy(ROWS))
    for layer in range(1, 6):
        assert np.array_equal(answer["arrays"][str(layer)], ROWS[layer])


def test_steerkit_writes_a_layer(peer, tmp_path):
    written(peer, "steerkit", tmp_path)
    theirs = EmotionVectors.load(tmp_path / "joy.gguf", num_layers=6)
    assert theirs.layers == (3,)
    assert torch.equal(theirs["joy"][3], torch.from_numpy(ROWS[3]))
    assert theirs.provenance["fields"]["joy"]["hook_site"] == "resid_post"


def test_hidden_directions_writes_a_tensor(peer, tmp_path):
    written(peer, "hidden-directions", tmp_path)
    assert torch.equal(EmotionVectors.load(tmp_path / "joy.pt")["joy"], torch.from_numpy(ROWS))


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("steering-vectors", "joy.pt", r"could run code of the file \(.*SteeringVector"),
        ("persona-vectors", "steering_vector.safetensors", "holds no emotion vectors of emokernel"),
        ("repsteer", "tensors.safetensors", "holds no emotion vectors of emokernel"),
        ("steerkit", "probe.safetensors", "holds no emotion vectors of emokernel"),
    ],
)
def test_what_is_refused_is_told(name, file, message, peer, tmp_path):
    written(peer, name, tmp_path)
    with pytest.raises(VectorsFileError, match=message) as error:
        EmotionVectors.load(tmp_path / file)
    print(error.value)
