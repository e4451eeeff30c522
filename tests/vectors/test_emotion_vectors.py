"""EmotionVectors and their file."""

from __future__ import annotations

import dataclasses
import pickle

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file

from emokernel import EmokernelError, EmotionVectors
from emokernel.errors import UnknownEmotionError, VectorsFileError


def two(layers=3, width=4):
    return {
        "joy": torch.arange(float(layers * width)).view(layers, width),
        "anger": torch.ones(layers, width),
    }


def test_from_tensors_keeps_names_order_and_values():
    vectors = EmotionVectors.from_tensors(two(), site="attention")
    assert vectors.names == ("joy", "anger")
    assert (vectors.num_layers, vectors.hidden_size, vectors.site) == (3, 4, "attention")
    assert torch.equal(vectors["anger"], torch.ones(3, 4))
    assert torch.equal(vectors.select(["anger"]).tensor[:, 0], torch.ones(3, 4))


@given(
    st.integers(1, 4), st.integers(1, 5), st.sets(st.integers(0, 3)), st.text(), st.integers(0, 99)
)
def test_files_round_trip(tmp_path_factory, layers, width, empty, note, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(layers, width, generator=generator) for name in ("a b", "ü")}
    for tensor in tensors.values():
        tensor[[layer for layer in empty if layer < layers]] = 0.0
    vectors = EmotionVectors.from_tensors(tensors, site="block", provenance={"data": note})
    path = tmp_path_factory.mktemp("vectors") / "v.safetensors"
    vectors.save(path)
    loaded = EmotionVectors.load(path)
    assert torch.equal(loaded.tensor, vectors.tensor)
    assert (loaded.names, loaded.site) == (vectors.names, "block")
    assert loaded.provenance == {"data": note}
    assert loaded.layers == tuple(n for n in range(layers) if n not in empty)


def test_layers_without_vectors_are_not_stored(tmp_path):
    from safetensors import safe_open

    tensors = two()
    for tensor in tensors.values():
        tensor[1] = 0
    EmotionVectors.from_tensors(tensors).save(tmp_path / "v.safetensors")
    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["layer.0", "layer.2"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "v.safetensors"
    EmotionVectors.from_tensors(two()).save(path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("emokernel.vectors.formats.native.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        EmotionVectors.from_tensors(two(2)).save(path)
    assert path.read_bytes() == before


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "v.safetensors"
    with pytest.raises(FileNotFoundError, match=r"v\.safetensors"):
        EmotionVectors.load(path)
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(VectorsFileError, match="holds no emotion vectors"):
        EmotionVectors.load(path)
    EmotionVectors.from_tensors(two()).save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:50], b"", b"\x80\x04pickle", whole[:8] + b"{" * 40):
        path.write_bytes(damaged)
        with pytest.raises(VectorsFileError, match="damaged or no safetensors"):
            EmotionVectors.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "9"}, "format version 9"),
        ({"names": '["joy"]'}, "does not fit"),
        ({"num_layers": "2"}, "does not fit"),
        ({"num_layers": "many"}, "damaged"),
        ({"site": "mlp"}, "unknown site"),
        ({"provenance": "{"}, "damaged"),
    ],
)
def test_contradictory_metadata_is_refused(change, message, tmp_path):
    from safetensors import safe_open

    path = tmp_path / "v.safetensors"
    EmotionVectors.from_tensors(two()).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | change
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(VectorsFileError, match=message):
        EmotionVectors.load(path)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({}, {}, "no vectors given"),
        ({"joy": torch.ones(3)}, {}, "needs one tensor"),
        ({"joy": torch.ones(3, 4), "fear": torch.ones(3, 5)}, {}, "needs one tensor"),
        ({"joy": torch.full((3, 4), float("nan"))}, {}, "finite"),
        ({"": torch.ones(3, 4)}, {}, "not empty"),
        ({"joy": torch.ones(3, 4)}, {"site": "mlp"}, "unknown site"),
    ],
)
def test_bad_tensors_are_refused(tensors, options, message):
    with pytest.raises(EmokernelError, match=message):
        EmotionVectors.from_tensors(tensors, **options)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownEmotionError, match="Did you mean 'anger'"):
        EmotionVectors.from_tensors(two())["angr"]


class Own(EmotionVectors):
    """A subclass, whose vectors are of its class wherever they come from."""


def test_a_subclass_stays_one(tmp_path):
    vectors = Own.from_tensors(two())
    vectors.save(tmp_path / "v.safetensors")
    with pytest.warns(UserWarning, match="cannot hold"):
        vectors.save(tmp_path / "q_", format="json")
    made = (
        vectors,
        Own.load(tmp_path / "v.safetensors"),
        Own.from_pretrained(tmp_path, "v.safetensors"),
        Own.from_json(tmp_path / "q_"),
        vectors.scaled(2.0).select(["joy"]),
    )
    assert [type(each) for each in made] == [Own] * len(made)


def test_names_of_files_are_read_without_their_prefix(tmp_path):
    EmotionVectors.from_tensors({"qwen_joy": torch.ones(2, 4)}).save(tmp_path, format="npy")
    assert EmotionVectors.load(tmp_path, format="npy", prefix="qwen_").names == ("joy",)


def test_a_copy_is_whole():
    vectors = EmotionVectors.from_tensors(two())
    again = pickle.loads(pickle.dumps(vectors))
    assert type(again) is EmotionVectors
    assert again.digest() == vectors.digest()
    assert dataclasses.replace(vectors, site="attention").site == "attention"
