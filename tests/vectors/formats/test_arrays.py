"""numpy and torch files: what others make by hand is read, what would run code is not."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from vectors_samples import foreign_files, rows, some_vectors

from emokernel import EmokernelError, EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import FORMATS, files

EXPECTED = torch.from_numpy(rows())
OWN = {"vectors": EXPECTED[:, None], "names": ["joy"], "site": "block", "metadata": {}}


class Harmful:
    """Its pickle calls a function."""

    ran = False

    def __reduce__(self):
        return harm, ()


def harm():
    Harmful.ran = True


def test_named_arrays_and_tensors_are_read(tmp_path):
    paths = foreign_files(tmp_path)
    for kind in ("named arrays", "named tensors"):
        vectors = EmotionVectors.load(paths[kind])
        assert (vectors.names, vectors.site) == (("joy", "anger"), "block")
        assert torch.equal(vectors["joy"], EXPECTED)
        assert torch.equal(vectors["anger"], -EXPECTED)
        renamed = EmotionVectors.load(paths[kind], names=["a", "b"], site="attention")
        assert (renamed.names, renamed.site) == (("a", "b"), "attention")


def test_stacked_emotions_are_read_by_names_that_are_said(tmp_path):
    stacked = np.stack([rows(), -rows()], axis=1).astype(np.float64)
    np.save(tmp_path / "a.npy", np.asfortranarray(stacked.astype(">f4")))
    np.savez_compressed(tmp_path / "a.npz", stacked)
    torch.save(torch.from_numpy(stacked), tmp_path / "b.bin")
    for name in ("a.npy", "a.npz", "b.bin"):
        vectors = EmotionVectors.load(tmp_path / name, names=["joy", "anger"])
        assert (vectors.names, vectors.site) == (("joy", "anger"), "block")
        assert torch.equal(vectors["anger"], -EXPECTED)
        for names in (None, ["joy"]):
            with pytest.raises(VectorsFileError, match="does not say its emotions"):
                EmotionVectors.load(tmp_path / name, names=names)


def test_one_emotion_is_called_what_its_file_is_called(tmp_path):
    half = EXPECTED.half()
    torch.save(half, tmp_path / "joy.pt")
    torch.save({2: half[2], 0: half[0]}, tmp_path / "fear.pth")
    torch.save({"2": torch.nn.Parameter(half[2])}, tmp_path / "anger.bin")
    np.save(tmp_path / "calm.npy", half.numpy())
    assert torch.equal(EmotionVectors.load(tmp_path / "joy.pt")["joy"], half.float())
    assert torch.equal(EmotionVectors.load(tmp_path / "calm.npy")["calm"], half.float())
    fear = EmotionVectors.load(tmp_path / "fear.pth", num_layers=5)
    assert (fear.num_layers, fear.layers) == (5, (0, 2))
    assert torch.equal(fear["fear"][2], half[2].float())
    anger = EmotionVectors.load(tmp_path / "anger.bin", names=["rage"])
    assert torch.equal(anger["rage"][2], half[2].float())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Harmful(), "could run code of the file .*harm"),
        ({"joy": Harmful()}, "could run code"),
        ({0: rows()[0]}, "could run code of the file .*numpy"),
        (3, "a int without tensors"),
        ({}, "a dict without tensors"),
        ([EXPECTED], "a list without tensors"),
        ({"joy": "text"}, "'joy' is str, which is no vectors"),
        ({"joy": EXPECTED, "anger": EXPECTED[0]}, "'anger' is .6., which is no vectors"),
        ({0: EXPECTED}, "0 is .3, 6., which is no vectors"),
        ({"joy": EXPECTED[0]}, "'joy' is .6., which is no vectors"),
        ({True: EXPECTED[0]}, "True is .6., which is no vectors of a layer"),
        ({1: EXPECTED[0], "1": EXPECTED[1]}, "a layer is there twice"),
        ({10**6: EXPECTED[0]}, "no model has vectors of the shape"),
        ({"joy": EXPECTED.long()}, "no plain tensor of floating numbers"),
        ({"joy": EXPECTED.to_sparse()}, "no plain tensor of floating numbers"),
        ({"joy": torch.ones(1).expand(4000, 4000)}, "larger than the file"),
        ({"joy": EXPECTED / 0}, "must be finite"),
        ({"vectors": EXPECTED}, "with 'vectors' .* only"),
        ({**OWN, "vectors": EXPECTED}, "with 'vectors' .* only"),
        ({**OWN, "more": 1}, r"can stand, not .*'more'"),
        ({**OWN, "metadata": {"format": "x"}}, "no record of emokernel"),
        ({**OWN, "metadata": "x"}, "no record of emokernel"),
    ],
)
def test_torch_files_of_something_else_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "joy.pt")
    with pytest.raises(VectorsFileError, match=rf"joy\.pt.*{message}") as caught:
        EmotionVectors.load(tmp_path / "joy.pt")
    assert "\n" not in str(caught.value)
    assert not Harmful.ran


def test_old_torch_files_are_refused(tmp_path):
    torch.save({"joy": EXPECTED}, tmp_path / "joy.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(VectorsFileError, match="of the format before torch"):
        EmotionVectors.load(tmp_path / "joy.pt")


def test_a_flipped_bit_of_a_torch_file_is_found(tmp_path):
    path = foreign_files(tmp_path)["named tensors"]
    whole = bytearray(path.read_bytes())
    whole[whole.index(rows().tobytes()) + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(VectorsFileError, match="the checksum of 'joy/data/0' is wrong"):
        EmotionVectors.load(path)


def npy(array, **options):
    file = BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([Harmful()]), allow_pickle=True), "objects are never unpickled"),
        (npy(rows().astype(int)), "an array of int64"),
        (npy(rows()[0]), r"has the shape \[6\]"),
        (npy(rows())[:-1], "the array needs 72 bytes, there are 71"),
        (npy(rows()) + b"\0", "the array needs 72 bytes, there are 73"),
        (npy(rows()).replace(b"(3, 6)", b"(9**9,6)"), "damaged or no npy file"),
        (npy(rows()).replace(b"(3, 6), ", b"(3,6**9)"), "damaged or no npy file"),
        (npy(rows()).replace(b"(3, 6), }  ", b"(3000000,6)}"), "the array needs 72000000 bytes"),
        (npy(np.array(["joy"])), "holds str"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", r"of version \(2, 0\): save it again"),
        (npy(rows() * np.inf), "must be finite"),
        (npy(rows().astype(np.float64) * 1e300), "must be finite"),
    ],
)
def test_numpy_files_of_something_else_are_refused(content, message, tmp_path):
    (tmp_path / "joy.npy").write_bytes(content)
    with pytest.raises(VectorsFileError, match=rf"joy\.npy.*{message}"):
        EmotionVectors.load(tmp_path / "joy.npy")
    assert not Harmful.ran


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return path


def test_npz_files_of_something_else_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BYTES_OF_ANY_FILE", 2**16)
    path = tmp_path / "joy.npz"
    for members, message in (
        ({"joy_npy": npy(rows()), "readme_txt": "text"}, "'readme.txt' in it is no array"),
        ({"joy_npy": npy(np.array([Harmful()]), allow_pickle=True)}, "never unpickled"),
        ({"joy_npy": npy(rows()[0])}, "'joy' is .6., which is no vectors"),
        ({"joy_npy": bytes(2**20)}, "bytes of memory"),
    ):
        with pytest.raises(VectorsFileError, match=rf"joy\.npz.*{message}"):
            EmotionVectors.load(archive(path, **members))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("joy.npy", npy(rows()))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("joy.npy", npy(rows()))
    with pytest.raises(VectorsFileError, match="is there twice"):
        EmotionVectors.load(path)
    assert not Harmful.ran


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": torch.zeros(5, 1, 6)}, {"names": ["anger"]}, {"names": None},
        {"site": "attention"}, {"site": None},
    ],
)  # fmt: skip
def test_bundles_that_contradict_their_metadata_are_refused(change, tmp_path):
    vectors = some_vectors()
    if "vectors" in change:  # layers without vectors alone, which the checksum does not see
        change["vectors"][:3] = vectors.tensor
    vectors.save(tmp_path / "joy.pt")
    bundle = torch.load(tmp_path / "joy.pt", weights_only=True)
    torch.save(bundle | change, tmp_path / "joy.pt")
    with pytest.raises(VectorsFileError, match="are not those of its metadata"):
        EmotionVectors.load(tmp_path / "joy.pt")


def test_names_of_one_file_fit_its_emotions(tmp_path):
    paths = foreign_files(tmp_path)
    with pytest.raises(VectorsFileError, match="1 names for 2 emotions"):
        EmotionVectors.load(paths["named arrays"], names=["joy"])
    with pytest.raises(VectorsFileError, match="there is no layer 2 in 2 layers"):
        EmotionVectors.load(paths["named arrays"], num_layers=2)


def test_bundles_by_hand_are_read(tmp_path):
    stacked = np.stack([rows(), -rows()], axis=1)
    np.savez(tmp_path / "a.npz", vectors=stacked, names=np.array(["joy", "anger"]))
    bundle = {"vectors": torch.from_numpy(stacked), "names": ["joy", "anger"]}
    torch.save({**bundle, "site": "attention"}, tmp_path / "a.pt")
    for name, site in (("a.npz", "block"), ("a.pt", "attention")):
        vectors = EmotionVectors.load(tmp_path / name)
        assert (vectors.names, vectors.site) == (("joy", "anger"), site)
        assert torch.equal(vectors["anger"], -EXPECTED)
    assert EmotionVectors.load(tmp_path / "a.pt", names=["x", "y"]).names == ("x", "y")
    torch.save({**bundle, "names": "joy"}, tmp_path / "a.pt")
    with pytest.raises(VectorsFileError, match="'names' must be a list of strings"):
        EmotionVectors.load(tmp_path / "a.pt")
    torch.save({**bundle, "names": None}, tmp_path / "a.pt")
    with pytest.raises(VectorsFileError, match="does not say its emotions"):
        EmotionVectors.load(tmp_path / "a.pt")


def test_a_percent_sign_of_others_is_none_of_ours(tmp_path):
    np.save(tmp_path / "50%20off.npy", rows())
    assert EmotionVectors.load(tmp_path / "50%20off.npy").names == ("50%20off",)


@pytest.mark.parametrize("held", FORMATS)
def test_another_format_than_the_ending_says_is_named(held, tmp_path):
    ending = ".pt" if held != "torch" else ".npz"
    kind, saved = FORMATS[held], tmp_path / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        some_vectors().save(saved.with_suffix(kind.endings[0]))
    saved.with_suffix(kind.endings[0]).rename(tmp_path / f"joy{ending}")
    with pytest.raises(VectorsFileError) as raised:
        EmotionVectors.load(tmp_path / f"joy{ending}")
    told = f"holds a file of the format {held}: say format='{held}' (--from {held})"
    assert str(raised.value) == f"{tmp_path / f'joy{ending}'} {told}"
    assert EmotionVectors.load(tmp_path / f"joy{ending}", format=held).names == ("joy",)


def test_several_paths_are_refused(tmp_path):
    with pytest.raises(EmokernelError, match="give one path"):
        EmotionVectors.from_json([tmp_path / "joy.json"])
