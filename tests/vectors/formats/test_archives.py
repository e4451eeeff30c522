"""Files that ask for more memory than they are worth: refused before it is taken."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from vectors_samples import rows, some_vectors

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import files

MIB = 2**20


def npy_header(shape):
    file = BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def refused(path, message):
    """The most bytes that were held while the file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(VectorsFileError, match=message) as caught:
            EmotionVectors.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    return peak


def bomb(path: Path, member: str, mebibytes: int, start: bytes = b"") -> Path:
    """An archive whose member is almost nothing but zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        file.write(start)
        for _ in range(mebibytes):
            file.write(bytes(MIB))
    return path


@pytest.mark.parametrize(
    ("name", "member", "start"),
    [
        ("joy.npz", "joy.npy", npy_header((4, 64 * MIB // 4))),
        ("joy.pt", "archive/data.pkl", b""),
        ("joy.pt", "archive/data/0", b""),
    ],
)
def test_a_zip_bomb_is_refused_before_it_goes_off(name, member, start, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BYTES_OF_ANY_FILE", MIB)
    path = bomb(tmp_path / name, member, 64, start)
    assert path.stat().st_size < MIB
    assert refused(path, "unpacks to 6710.* bytes of memory") < MIB


def test_many_small_members_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BYTES_OF_ANY_FILE", MIB)
    with zipfile.ZipFile(tmp_path / "joy.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            content = npy_header((1, MIB // 16)) + bytes(MIB // 4)
            archive.writestr(f"joy {number}.npy", content)
    assert refused(tmp_path / "joy.npz", "unpacks to 52.* bytes of memory") < MIB


def with_sizes(path: Path, size: int) -> Path:
    """The same archive, whose directory and header say that the member unpacks to ``size``."""
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", size)
    content[22:26] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("rows_said", "said"), [(2, "small"), (64, "large")])
def test_a_header_that_lies_gets_what_it_says_and_no_more(rows_said, said, tmp_path):
    path = tmp_path / "joy.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        content = npy_header((rows_said, MIB // 4)) + bytes(32 * MIB)
        archive.writestr("joy.npy", content)
    with_sizes(path, len(npy_header((rows_said, MIB // 4))) + rows_said * MIB)
    peak = refused(path, "damaged")
    assert peak < (6 if said == "small" else 80) * MIB


def test_members_that_nobody_compresses_so_are_refused(tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "joy.npz", "w", method) as archive:
            archive.writestr("joy.npy", npy_header((2, MIB)) + bytes(8 * MIB))
        assert refused(tmp_path / "joy.npz", "it is compressed in a way") < MIB


def test_what_is_compressed_within_reason_is_read(tmp_path):
    zeros = np.zeros((64, 4096), np.float32)
    zeros[3] = 1
    np.savez_compressed(tmp_path / "joy.npz", joy=zeros)
    assert (tmp_path / "joy.npz").stat().st_size < zeros.nbytes / 100
    assert EmotionVectors.load(tmp_path / "joy.npz").layers == (3,)


@pytest.mark.parametrize("name", ["joy.npy", "joy.npz", "joy.pt", "joy.safetensors"])
def test_a_large_file_of_something_else_is_not_read_whole(name, tmp_path):
    """Sparse files of 64 MiB: what they hold is refused by their beginning or size."""
    path = tmp_path / name
    some_vectors().save(tmp_path / "whole.npz")
    starts = {
        "joy.npy": npy_header((3, 6)),
        "joy.npz": (tmp_path / "whole.npz").read_bytes(),
        "joy.pt": b"PK\x03\x04archive/data.pkl",
        "joy.safetensors": (2**16).to_bytes(8, "little") + b"{" + b" " * 2**16,
    }
    with path.open("wb") as file:
        file.write(starts[name])
        file.truncate(64 * MIB)
    assert refused(path, "joy") < 2 * MIB


def test_numbers_of_a_torch_file_count_once(tmp_path):
    """Many tensors of one storage would each become one of their own."""
    tensor = torch.from_numpy(rows(64, 64))
    torch.save({f"emotion {n}": tensor for n in range(9)}, tmp_path / "joy.pt")
    refused(tmp_path / "joy.pt", "its tensors together would be larger than the file")
    torch.save(dict(enumerate(tensor)), tmp_path / "joy.pt")  # rows of one storage
    assert torch.equal(EmotionVectors.load(tmp_path / "joy.pt")["joy"], tensor)


def test_a_storage_that_says_more_than_the_archive_has_is_refused(tmp_path):
    file = BytesIO()
    torch.save({"joy": torch.from_numpy(rows(3, 4))}, file)
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "joy.pt", "w") as lying:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("data.pkl"):  # 12 numbers and 3 rows become 1024 and 256
                content = content.replace(b"K\x0ct", b"M\x00\x04t")
                content = content.replace(b"K\x03K\x04\x86", b"M\x00\x01K\x04\x86")
            lying.writestr(name, content)
        lying.writestr("archive/data/1", bytes(MIB))
    refused(tmp_path / "joy.pt", "damaged or no torch file")


def test_an_empty_archive_is_refused(tmp_path):
    np.savez(tmp_path / "joy.npz")
    refused(tmp_path / "joy.npz", "nothing is in it")


def test_members_that_the_directory_lost_are_missed(tmp_path):
    np.savez(tmp_path / "a.npz", joy=rows(), anger=rows())
    whole = (tmp_path / "a.npz").read_bytes()
    begin = whole.index(b"PK\x01\x02")
    second, end = whole.index(b"PK\x01\x02", begin + 1), whole.index(b"PK\x05\x06")
    start = struct.pack("<I", begin)
    for kept in (whole[begin:second], whole[second:end]):
        counts = struct.pack("<HHI", 1, 1, len(kept))
        tail = whole[end : end + 8] + counts + start + whole[end + 20 :]
        (tmp_path / "a.npz").write_bytes(whole[:begin] + kept + tail)
        with pytest.raises(VectorsFileError, match="directory of the archive is not that of its"):
            EmotionVectors.load(tmp_path / "a.npz")
