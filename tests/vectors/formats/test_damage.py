"""Damaged files of every format: refused, or read as they were written; never anything else.

EMOKERNEL_FUZZ=20000 makes that many mutations of each format in place of 300.
"""

from __future__ import annotations

import os
import random
import resource
import warnings
from pathlib import Path

import pytest
import torch
from vectors_samples import foreign_files, some_vectors

from emokernel import EmotionVectors
from emokernel.errors import VectorsFileError
from emokernel.vectors.formats import FORMATS, write

MUTATIONS = int(os.environ.get("EMOKERNEL_FUZZ", "300"))
# Formats that hold tensors alone have no checksum: what is read may differ in its numbers.
SEALED = ("safetensors", "gguf", "npz", "torch")
NUMBERS = (0, 1, 2**8 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1)


def written(folder: Path, format: str) -> Path:
    """The path of a whole file of the format, or of a foreign kind of it."""
    if format not in FORMATS:
        return foreign_files(folder)[format]
    path = folder / f"joy{FORMATS[format].endings[0]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(some_vectors(), path, format=format)
    return path


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One of the damages that files suffer, or somebody inflicts."""
    damaged = bytearray(content)
    place = chance.randrange(len(damaged))
    match chance.randrange(8):
        case 0:
            damaged[place] ^= 1 << chance.randrange(8)
        case 1:
            damaged[place] = chance.randrange(256)
        case 2:
            del damaged[place:]
        case 3:
            del damaged[place : place + chance.randrange(1, 40)]
        case 4:
            damaged[place:place] = chance.randbytes(chance.randrange(1, 40))
        case 5:  # numbers of a header
            size = chance.choice((4, 8))
            number = chance.choice(NUMBERS) % 2 ** (8 * size)
            damaged[place : place + size] = number.to_bytes(size, "little")
        case 6:  # digits of a text
            digits = [at for at, byte in enumerate(damaged) if chr(byte).isdigit()]
            damaged[chance.choice(digits)] = ord(chance.choice("0123456789-.e"))
        case _:
            other = chance.randrange(len(damaged))
            length = chance.randrange(1, 40)
            damaged[place : place + length] = damaged[other : other + length]
    return bytes(damaged)


def same(read: EmotionVectors, expected: EmotionVectors) -> bool:
    bits = [vectors.tensor.view(torch.int32) for vectors in (read, expected)]
    return (
        bits[0].shape == bits[1].shape
        and torch.equal(*bits)
        and (read.names, read.site) == (expected.names, expected.site)
        and dict(read.provenance) == dict(expected.provenance)
        and dict(read.diagnostics) == dict(expected.diagnostics)
        and read.calibration == expected.calibration
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "format", [*FORMATS, "repeng", "easysteer", "named arrays", "named tensors", "version 1"]
)
def test_damaged_files_are_refused_or_read_as_they_were(format, tmp_path):
    path = written(tmp_path, format)
    content, expected = path.read_bytes(), EmotionVectors.load(path)
    chance, refused, memory = random.Random(format), 0, peak_memory()
    for count in range(MUTATIONS):
        damaged = mutate(content, chance)
        path.write_bytes(damaged)
        try:
            read = EmotionVectors.load(path)
        except VectorsFileError as error:
            message = str(error)
        else:
            message = None
        if message is not None:
            assert str(path) in message, message
            assert "\n" not in message
            refused += 1
        elif format in SEALED:
            assert same(read, expected), f"mutation {count} was accepted in silence: {damaged!r}"
        else:
            assert torch.isfinite(read.tensor).all()
    assert refused > MUTATIONS / 4
    assert peak_memory() - memory < 300 * 2**20


def peak_memory() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("format", [*FORMATS])
def test_a_pointer_of_git_lfs_is_told_as_what_it_is(format, tmp_path):
    path = tmp_path / f"joy{FORMATS[format].endings[0]}"
    oid = "oid sha256:82a1503ff9e77f4c3a36b06aab517b4f76faae68eda6003a542bd38324fbf0cb"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\n{oid}\nsize 173632\n")
    with pytest.raises(VectorsFileError, match="is a pointer of Git LFS that stands for the file"):
        EmotionVectors.load(path, format=format)
