"""Every format gives back what was written, and the right one is found."""

from __future__ import annotations

import warnings

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import save_file
from vectors_samples import foreign_files, rows, some_vectors

from emokernel import EmokernelError, EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import FORMATS, format_of, read, write

WHOLE = ("safetensors", "gguf", "npz", "torch")
BARE = {"json": "attention", "npy": "block"}


def place(folder, format):
    kind = FORMATS[format]
    return folder / ("set" if kind.file_per_emotion else f"set{kind.endings[0]}")


def quietly(vectors, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(vectors, path, **options)


def bits(vectors):
    return vectors.tensor.view(torch.int32)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)  # fmt: skip
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def names_of(alphabet):
    return st.lists(
        st.text(alphabet, min_size=1, max_size=6), min_size=1, max_size=3, unique=True
    ).map(tuple)


@pytest.mark.parametrize("format", WHOLE)
@settings(max_examples=30, deadline=None)
@given(
    names_of(st.characters()), st.integers(1, 4), st.integers(1, 5), st.dictionaries(
        st.text(max_size=5), plain, max_size=3
    ), st.sampled_from(["attention", "block"]), st.data(),
)  # fmt: skip
def test_all_is_kept(tmp_path_factory, format, names, layers, width, provenance, site, data):
    numbers = st.lists(finite, min_size=layers * len(names) * width, max_size=9**3)
    tensor = torch.tensor(data.draw(numbers)[: layers * len(names) * width])
    vectors = EmotionVectors(
        names, tensor.view(layers, len(names), width), site, provenance, {"auc": [0.5, None]}
    )
    path = place(tmp_path_factory.mktemp("vectors"), format)
    quietly(vectors, path, format=format)
    found = EmotionVectors.load(path)
    assert torch.equal(bits(found), bits(vectors))
    assert (found.names, found.site) == (names, site)
    assert dict(found.provenance) == provenance
    assert dict(found.diagnostics) == {"auc": [0.5, None]}


@pytest.mark.parametrize("format", WHOLE)
def test_calibrations_are_kept(format, tmp_path):
    vectors = some_vectors(("joy", "anger"))
    quietly(vectors, place(tmp_path, format), format=format)
    found = EmotionVectors.load(place(tmp_path, format))
    assert found.calibration == vectors.calibration
    assert found.calibration.strengths["preserve absolute"] == {"joy": 1.5, "anger": 1.5}


@pytest.mark.parametrize("format", BARE)
@settings(max_examples=30, deadline=None)
@given(names_of("abcxyz äß日_-"), st.integers(1, 4), st.integers(1, 5), st.data())
def test_bare_formats_keep_names_and_bits(tmp_path_factory, format, names, layers, width, data):
    names = tuple(sorted({name.strip() or "joy" for name in names}))
    size = layers * len(names) * width
    tensor = torch.tensor(data.draw(st.lists(finite, min_size=size, max_size=size)))
    vectors = EmotionVectors(names, tensor.view(layers, len(names), width), BARE[format])
    path = place(tmp_path_factory.mktemp("vectors"), format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is lost
        write(vectors, path, format=format)
    found = EmotionVectors.load(path)
    assert torch.equal(bits(found), bits(vectors))
    assert (found.names, found.site) == (names, BARE[format])


@pytest.mark.parametrize("format", BARE)
def test_bare_formats_tell_what_they_lose(format, tmp_path):
    other = "block" if BARE[format] == "attention" else "attention"
    vectors = some_vectors(("joy", "anger"), site=other)
    expected = rf"the order .*, the site '{other}' .*, provenance, diagnostics, calibration"
    with pytest.warns(UserWarning, match=expected):
        write(vectors, tmp_path / "set", format=format)
    assert read(tmp_path / "set", site=other).site == other


@pytest.mark.filterwarnings("ignore:llama.cpp cannot steer")
@pytest.mark.parametrize("name", ["a/b", "..", ".joy", "joy ", "nul\0", "\ud800", "a%2Fb", "a\\b"])
@pytest.mark.parametrize("format", ["gguf", *BARE])
def test_names_that_cannot_be_file_names_are_kept(format, name, tmp_path):
    names = tuple(sorted(("joy", name)))
    write(
        EmotionVectors(names, torch.ones(2, 2, 2), BARE.get(format, "block")),
        tmp_path / "set", format=format,
    )  # fmt: skip
    assert len(list((tmp_path / "set").iterdir())) == 2
    assert EmotionVectors.load(tmp_path / "set").names == names


@pytest.mark.parametrize("format", ["gguf", *BARE])
def test_a_file_per_emotion(format, tmp_path):
    ending = FORMATS[format].endings[0]
    vectors = some_vectors(("joy", "anger"))
    with pytest.raises(EmokernelError, match=r"holds one emotion, these vectors have 2"):
        quietly(vectors, tmp_path / f"set{ending}")
    quietly(vectors, tmp_path / "set", format=format)
    assert sorted(file.name for file in (tmp_path / "set").iterdir()) == [
        f"anger{ending}", f"joy{ending}"
    ]  # fmt: skip
    quietly(vectors, tmp_path / "set", format=format)  # the same emotions again: replaced
    with pytest.raises(EmokernelError, match=rf"anger\{ending} is of none of these emotions"):
        quietly(vectors.select(["joy"]), tmp_path / "set", format=format)
    single = tmp_path / f"joy{ending}"
    quietly(vectors.select(["joy"]), single)
    assert torch.equal(EmotionVectors.load(single).tensor, vectors.select(["joy"]).tensor)


def test_an_interrupted_write_leaves_the_old_files(tmp_path, monkeypatch):
    quietly(some_vectors(("joy", "anger")), tmp_path / "set", format="json")
    before = {file: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    from emokernel.vectors.formats import json_files

    monkeypatch.setattr(json_files.json, "dumps", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quietly(some_vectors(("joy", "anger")).scaled(2), tmp_path / "set", format="json")
    assert {file: file.read_bytes() for file in (tmp_path / "set").iterdir()} == before


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_is_found_by_the_ending(format, tmp_path):
    for ending in FORMATS[format].endings:
        path = tmp_path / f"joy{ending.upper()}"
        quietly(some_vectors(), path)
        assert format_of(path) == format
        renamed = path.rename(tmp_path / "joy.download")
        assert torch.equal(read(renamed, format=format).tensor, some_vectors().tensor)
        other = "json" if format == "npz" else "npz"
        with pytest.raises(VectorsFileError, match=r"joy\.download"):
            read(renamed, format=other)


def test_files_of_other_endings_are_native(tmp_path):
    some_vectors().save(tmp_path / "joy.vectors")
    assert torch.equal(EmotionVectors.load(tmp_path / "joy.vectors").tensor, some_vectors().tensor)


@pytest.mark.parametrize("format", BARE)
def test_a_folder_is_read_in_the_order_of_the_names(format, tmp_path):
    names = ("a", "a b", "a-b", "ab")
    EmotionVectors(names, torch.randn(2, 4, 3), BARE[format]).save(tmp_path / "set", format=format)
    assert EmotionVectors.load(tmp_path / "set").names == names


def test_what_is_no_known_format_is_said(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("joy")
    with pytest.raises(VectorsFileError, match=r"notes\.txt is damaged or no safetensors file"):
        EmotionVectors.load(path)
    with pytest.raises(VectorsFileError, match="holds no files of emotion vectors"):
        EmotionVectors.load(tmp_path)
    with pytest.raises(EmokernelError, match="unknown format 'onnx'"):
        EmotionVectors.load(path, format="onnx")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gguf"):
        EmotionVectors.load(tmp_path / "nowhere.gguf")
    for format in ("json", "npy"):
        quietly(some_vectors(), tmp_path / f"joy{FORMATS[format].endings[0]}", format=format)
    with pytest.raises(VectorsFileError, match="files of json and npy"):
        EmotionVectors.load(tmp_path)
    assert read(tmp_path, format="npy").names == ("joy",)


def test_files_that_say_all_contradict_other_hints(tmp_path):
    path = tmp_path / "set.safetensors"
    some_vectors().save(path)
    assert EmotionVectors.load(path, names=["joy"], site="block", num_layers=3).names == ("joy",)
    for hint in ({"names": ["anger"]}, {"site": "attention"}, {"num_layers": 4}):
        with pytest.raises(VectorsFileError, match=f"says its own {next(iter(hint))}"):
            EmotionVectors.load(path, **hint)
    with pytest.raises(EmokernelError, match="unknown site 'mlp'"):
        EmotionVectors.load(path, site="mlp")


def test_a_provenance_that_json_cannot_say_is_refused(tmp_path):
    vectors = EmotionVectors(("joy",), torch.ones(1, 1, 1), "block", {"data": object()})
    with pytest.raises(EmokernelError, match="the provenance cannot be stored"):
        vectors.save(tmp_path / "set.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_model_hint_is_for_gguf_alone(tmp_path):
    with pytest.raises(EmokernelError, match="npz has no place for a model hint"):
        write(some_vectors(), tmp_path / "set.npz", model_hint="llama")


def native_parts(path):
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize(
    "change",
    [
        {"names": '["anger"]'}, {"site": "attention"}, {"num_layers": "4"}, {"checksum": "0"},
        {"provenance": "{}"}, {"diagnostics": "{}"}, {"format_version": "1"}, {"more": "text"},
    ],
)  # fmt: skip
def test_the_checksum_covers_every_text(change, tmp_path):
    path = tmp_path / "set.safetensors"
    some_vectors().save(path)
    tensors, metadata = native_parts(path)
    save_file(tensors, path, metadata=metadata)
    EmotionVectors.load(path)
    save_file(tensors, path, metadata=metadata | change)
    with pytest.raises(VectorsFileError, match="the checksum does not fit"):
        EmotionVectors.load(path)


def test_the_checksum_covers_every_bit_and_must_be_there(tmp_path):
    path = tmp_path / "set.safetensors"
    some_vectors().save(path)
    tensors, metadata = native_parts(path)
    flipped = {key: rows.clone() for key, rows in tensors.items()}
    flipped["layer.2"].view(torch.int32)[0, 5] ^= 1
    save_file(flipped, path, metadata=metadata)
    with pytest.raises(VectorsFileError, match="the checksum does not fit"):
        EmotionVectors.load(path)
    del metadata["checksum"]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(VectorsFileError, match="the checksum does not fit"):
        EmotionVectors.load(path)


def test_files_of_version_1_have_no_checksum(tmp_path):
    vectors = EmotionVectors.load(foreign_files(tmp_path)["version 1"])
    expected = torch.from_numpy(rows())
    expected[1] = 0
    assert torch.equal(vectors["joy"], expected)


@pytest.mark.parametrize(
    ("change", "tensor", "message"),
    [
        ({"num_layers": "100000"}, None, "no model has vectors of the shape"),
        ({"num_layers": "9000", "hidden_size": "100000000"}, {}, "bytes of memory"),
        ({"names": '"joy"'}, None, "the names are no list"),
        ({"names": "[1]"}, None, "the names are no strings"),
        ({"provenance": "[]"}, None, "the provenance are no dict"),
        ({}, {"layer.+1": torch.ones(1, 6)}, "does not fit layer.N"),
        ({}, {"layer.1": torch.ones(1, 6, dtype=torch.float64)}, "does not fit layer.N"),
    ],
)
def test_damaged_numbers_of_version_1_are_refused(change, tensor, message, tmp_path):
    path = foreign_files(tmp_path)["version 1"]
    tensors, metadata = native_parts(path)
    save_file(tensors if tensor is None else tensor, path, metadata=metadata | change)
    with pytest.raises(VectorsFileError, match=message):
        EmotionVectors.load(path)
