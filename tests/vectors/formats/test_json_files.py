"""Vectors from JSON files."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError

GOOD = '{"0": [[1, 2.5]], "2": [[-3e-1, 0]]}'


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    write(tmp_path, joy=GOOD, anger='{"2": [[5, 6]], "0": [[7, 8]]}')
    (tmp_path / "README.md").write_text("not a vector")
    (tmp_path / "._joy.json").write_bytes(b"\0\xff")
    vectors = EmotionVectors.from_json(tmp_path)
    assert vectors.names == ("anger", "joy")
    assert vectors.site == "attention"
    assert vectors.layers == (0, 2)
    expected = torch.tensor([[[7, 8], [1, 2.5]], [[0, 0], [0, 0]], [[5, 6], [-0.3, 0]]])
    assert torch.equal(vectors.tensor, expected)
    assert vectors.provenance["files"]["joy"] == str(tmp_path / "joy.json")
    assert "JSON" in vectors.provenance["method"]


def test_names_lose_the_prefix(tmp_path):
    write(tmp_path, **{"qwen2.5_joy": GOOD, "qwen2.5_anger": GOOD})
    assert EmotionVectors.from_json(tmp_path).names == ("qwen2.5_anger", "qwen2.5_joy")
    assert EmotionVectors.from_json(tmp_path, prefix="qwen2.5_").names == ("anger", "joy")
    assert EmotionVectors.from_json(tmp_path / "qwen2.5_anger.json").names == ("qwen2.5_anger",)


def test_num_layers_adds_layers_without_vectors(tmp_path):
    write(tmp_path, joy=GOOD)
    vectors = EmotionVectors.from_json(tmp_path, num_layers=5)
    assert (vectors.num_layers, vectors.layers) == (5, (0, 2))
    with pytest.raises(VectorsFileError, match=r"joy\.json: there is no layer 2 in 2 layers"):
        EmotionVectors.from_json(tmp_path, num_layers=2)


names = st.text("abcdefghijklmnopqrstuvwxyz_äß ", min_size=1, max_size=8)


@given(
    st.lists(names, min_size=1, max_size=3, unique=True),
    st.sets(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(1, 4),
    st.data(),
)
def test_files_round_trip(tmp_path_factory, names, layers, width, data):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    row = st.lists(finite, min_size=width, max_size=width)
    rows = {name: {layer: data.draw(row) for layer in layers} for name in names}
    folder = tmp_path_factory.mktemp("vectors")
    write(folder, **{
        name: json.dumps({str(layer): [row] for layer, row in of_layer.items()})
        for name, of_layer in rows.items()
    })  # fmt: skip
    vectors = EmotionVectors.from_json(folder)
    assert sorted(vectors.names) == sorted(names)
    assert vectors.tensor.shape == (max(layers) + 1, len(names), width)
    for name in names:
        expected = torch.zeros(max(layers) + 1, width)
        for layer, values in rows[name].items():
            expected[layer] = torch.tensor(values)
        assert torch.equal(vectors[name], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON file"),
        ('{"0": [[1, 2]]', "no JSON file"),
        ("\0", "no JSON file"),
        ("[" * 100_000, "no JSON file"),
        ('{"0": [[' + "1" * 5000 + "]]}", "no JSON file"),
        ("[[1, 2]]", "needs layers"),
        ("{}", "needs layers"),
        ("3", "needs layers"),
        ('{"0": [1, 2]}', "layer 0 needs one row"),
        ('{"0": 3}', "layer 0 needs one row"),
        ('{"0": []}', "layer 0 needs one row"),
        ('{"0": {}}', "layer 0 needs one row"),
        ('{"0": [{"0": 1}]}', "layer 0 needs one row"),
        ('{"0": [[1, 2]], "1": [[1, 2], [3, 4]]}', "layer 1 needs one row"),
        ('{"0": [[]]}', "layer 0 needs one row"),
        ('{"0": [[1, 2]], "1": [[1, 2, 3]]}', "layer 1 has 3 numbers, in .*layer 0 has 2"),
        ('{"0": [[1, "2"]]}', "layer 0 holds '2' in place 1"),
        ('{"0": [[1, null]]}', "layer 0 holds 'None' in place 1"),
        ('{"0": [[true, 2]]}', "layer 0 holds 'True' in place 0"),
        ('{"0": [[1, [2]]]}', r"layer 0 holds '\[2\]' in place 1"),
        ('{"0": [[1, NaN]]}', "layer 0 holds 'nan' in place 1"),
        ('{"0": [[-Infinity, 2]]}', "layer 0 holds '-inf' in place 0"),
        ('{"0": [[1, 1e999]]}', "layer 0 holds 'inf' in place 1"),
        ('{"0": [[1, 1e39]]}', "layer 0 holds '1.* in place 1"),
        ('{"0": [[1, 1' + "0" * 400 + "]]}", "layer 0 holds '1.* in place 1"),
        ('{"-1": [[1, 2]]}', "'-1' is no layer number"),
        ('{"joy": [[1, 2]]}', "'joy' is no layer number"),
        ('{"01": [[1, 2]]}', "'01' is no layer number"),
        ('{"0\\n": [[1, 2]]}', "is no layer number"),
        ('{"٣": [[1, 2]]}', "is no layer number"),
        ('{"999999999": [[1, 2]]}', "'999999999' is no layer number"),
        ('{"0": [[1, 2]], "0": [[3, 4]]}', "'0' is given twice"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(text, message, tmp_path):
    write(tmp_path, joy=text)
    with pytest.raises(VectorsFileError, match=rf"joy\.json.*{message}") as caught:
        EmotionVectors.from_json(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": [[1, 2]]}', r"joy\.json: layer 2 is missing, .*anger\.json has it"),
        ('{"0": [[1, 2]], "1": [[1, 2]], "2": [[1, 2]]}', r"anger\.json: layer 1 is missing"),
        (
            '{"0": [[1]], "2": [[2]]}',
            r"joy\.json: layer 0 has 1 numbers, in .*anger\.json layer 0 has 2",
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused(text, message, tmp_path):
    with pytest.raises(VectorsFileError, match=message):
        EmotionVectors.from_json(write(tmp_path, anger=GOOD, joy=text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "joy.json").write_bytes(b'{"0": "\xff\xfe"}')
    with pytest.raises(VectorsFileError, match=r"joy\.json is damaged or no JSON file"):
        EmotionVectors.from_json(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(VectorsFileError, match=r"holds no \.json files"):
        EmotionVectors.from_json(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"joy\.json"):
        EmotionVectors.from_json(tmp_path / "joy.json")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", joy=GOOD)
    (tmp_path / "a" / "joy.JSON").write_text(GOOD)
    with pytest.raises(VectorsFileError, match="are both files of 'joy'"):
        EmotionVectors.from_json(tmp_path / "a")
    (tmp_path / "a" / "joy.JSON").unlink()
    for prefix in ("llama_", "joy"):
        with pytest.raises(VectorsFileError, match=rf"joy\.json: no name .* {prefix!r}"):
            EmotionVectors.from_json(tmp_path / "a", prefix=prefix)


def test_a_file_larger_than_the_vectors_of_an_emotion_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("emokernel.vectors.formats.json_files._LARGEST_FILE", len(GOOD) - 1)
    with pytest.raises(VectorsFileError, match=r"joy\.json: it has 36 bytes, more than"):
        EmotionVectors.from_json(write(tmp_path, joy=GOOD))
