"""Layers that files do not say, or say by numbers for names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from vectors_samples import foreign_files, rows, some_vectors

from emokernel import EmokernelError, EmotionVectors
from emokernel.cli import main
from emokernel.errors import VectorsFileError

ROWS = torch.from_numpy(rows())


def bare(folder, name, tensor):
    """A file that holds the tensor and nothing else."""
    path = folder / name
    match path.suffix:
        case ".pt":
            torch.save(tensor, path)
        case ".npy":
            np.save(path, tensor.numpy())
        case ".npz":
            np.savez(path, tensor.numpy())  # arr_0
    return path


def named(folder, name, tensors):
    path = folder / name
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        np.savez(path, **{str(key): tensor.numpy() for key, tensor in tensors.items()})
    return path


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 1, 6)])
@pytest.mark.parametrize("ending", [".pt", ".npy", ".npz"])
def test_one_vector_needs_its_layer(ending, shape, tmp_path):
    path = bare(tmp_path, f"joy{ending}", ROWS[0].view(shape))
    names = ["joy"] if len(shape) == 3 else None
    for num_layers, layers in ((4, 4), (None, 3)):
        vectors = EmotionVectors.load(path, layer=2, num_layers=num_layers, names=names)
        assert (vectors.names, vectors.layers, vectors.num_layers) == (("joy",), (2,), layers)
        assert torch.equal(vectors["joy"][2], ROWS[0])
    assert EmotionVectors.load(path, names=["rage"], layer=0).names == ("rage",)
    if len(shape) == 1:
        said = r"shape \[6\], which is no vectors.* layer and num_layers \(--layer, --num-layers\)"
        with pytest.raises(VectorsFileError, match=said):
            EmotionVectors.load(path, num_layers=4)
    with pytest.raises(VectorsFileError, match="there is no layer 4 in 4 layers"):
        EmotionVectors.load(path, layer=4, num_layers=4, names=names)
    with pytest.raises(EmokernelError, match="layer must be at least 0, got -1"):
        EmotionVectors.load(path, layer=-1)


@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_one_vector_for_each_emotion_needs_their_layer(ending, tmp_path):
    path = named(tmp_path, f"set{ending}", {"joy": ROWS[0], "fear": ROWS[1]})
    vectors = EmotionVectors.load(path, layer=2, num_layers=4)
    assert (vectors.names, vectors.layers) == (("joy", "fear"), (2,))
    assert torch.equal(vectors["fear"][2], ROWS[1])
    with pytest.raises(VectorsFileError, match=r"'joy' is \[6\], which is no vectors.*--layer"):
        EmotionVectors.load(path)


def test_a_folder_of_single_vectors(tmp_path):
    bare(tmp_path, "joy.npy", ROWS[0])
    bare(tmp_path, "fear.npy", ROWS[1][None])
    vectors = EmotionVectors.load(tmp_path, layer=1)
    assert (vectors.names, vectors.layers) == (("fear", "joy"), (1,))


def files_that_say_their_layers(folder):
    foreign = foreign_files(folder)
    some_vectors().save(folder / "own.npz")
    (folder / "joy.json").write_text(json.dumps({"0": [[1, 2]], "1": [[1, 2]]}))
    torch.save({0: ROWS[0], 1: ROWS[1]}, folder / "layers.pt")
    return [
        *foreign.values(), folder / "own.npz", folder / "joy.json", folder / "layers.pt",
        bare(folder, "all.pt", ROWS), bare(folder, "all.npy", ROWS),
    ]  # fmt: skip


def test_a_layer_that_contradicts_the_file_is_refused(tmp_path):
    for path in files_that_say_their_layers(tmp_path):
        with pytest.raises(VectorsFileError, match=r"says its own layers, \[.*leave out layer 1"):
            EmotionVectors.load(path, layer=1)
    save_file({"layer.1": ROWS[:1]}, tmp_path / "one.safetensors", metadata={
        "format": "emokernel.emotion_vectors", "format_version": "1", "site": "block",
        "names": '["joy"]', "num_layers": "3", "hidden_size": "6", "provenance": "{}",
    })  # fmt: skip
    assert EmotionVectors.load(tmp_path / "one.safetensors", layer=1).layers == (1,)


def test_convert_takes_the_layer(tmp_path, capsys):
    path, target = bare(tmp_path, "joy.pt", ROWS[0]), tmp_path / "joy.gguf"
    assert main(["convert", str(path), str(target)]) == 2
    assert "(--layer, --num-layers)" in capsys.readouterr().err
    options = ["--layer", "2", "--num-layers", "4"]
    assert main(["convert", str(path), str(target), *options]) == 0
    vectors = EmotionVectors.load(target)
    assert (vectors.layers, vectors.num_layers) == ((2,), 4)
    assert main(["convert", str(path), str(target), "--layer", "-1", "--force"]) == 2
    assert "layer must be at least 0" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_numbers_for_names_are_layers(ending, shape, tmp_path):
    path = named(tmp_path, f"joy{ending}", {str(n): ROWS[n].view(shape) for n in (0, 2)})
    vectors = EmotionVectors.load(path)
    assert (vectors.names, vectors.layers, vectors.num_layers) == (("joy",), (0, 2), 3)
    assert torch.equal(vectors["joy"][2], ROWS[2])
    assert EmotionVectors.load(path, num_layers=5, names=["rage"]).names == ("rage",)
    if ending == ".pt":
        named(tmp_path, "joy.pt", {n: ROWS[n].view(shape) for n in (0, 2)})
        assert torch.equal(EmotionVectors.load(path).tensor, vectors.tensor)


@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_numbers_are_no_names_of_emotions(ending, tmp_path):
    path = named(tmp_path, f"set{ending}", {"0": ROWS, "1": -ROWS})
    with pytest.raises(VectorsFileError, match=r"'0' is \[3, 6\], which is no vectors.*say names"):
        EmotionVectors.load(path)
    assert torch.equal(EmotionVectors.load(path, names=["joy", "fear"])["fear"], -ROWS)


def test_arrays_that_numpy_named_are_no_emotions(tmp_path):
    path = tmp_path / "joy.npz"
    np.savez(path, rows())
    assert EmotionVectors.load(path).names == ("joy",)
    assert torch.equal(EmotionVectors.load(path, names=["rage"])["rage"], ROWS)
    np.savez(path, rows()[:1], rows()[1:2])
    with pytest.raises(VectorsFileError, match="no names but arr_0, arr_1: say the names"):
        EmotionVectors.load(path)
    assert EmotionVectors.load(path, names=["joy", "fear"]).names == ("joy", "fear")
    np.savez(path, np.array(["joy"]))
    with pytest.raises(VectorsFileError, match="no names but arr_0"):
        EmotionVectors.load(path)


def test_files_called_by_numbers_are_no_emotions(tmp_path):
    for number in range(3):
        bare(tmp_path, f"{number}.npy", ROWS[number][None])
    with pytest.raises(VectorsFileError, match="called by numbers: stack layers into one array"):
        EmotionVectors.load(tmp_path)
    assert EmotionVectors.load(tmp_path, names=["a", "b", "c"]).names == ("a", "b", "c")


def test_one_row_too_many_is_told(tmp_path):
    path = bare(tmp_path, "joy.pt", ROWS)
    with pytest.raises(VectorsFileError, match=r"no layer 2 in 2 layers.*row 0 of embeddings"):
        EmotionVectors.load(path, num_layers=2)


def test_what_a_torch_file_should_hold_is_said_plainly(tmp_path):
    torch.save(3, tmp_path / "joy.pt")
    said = r"save \{emotion: tensor \[layers, hidden size\]\} with torch\.save$"
    with pytest.raises(VectorsFileError, match=said):
        EmotionVectors.load(tmp_path / "joy.pt")
