"""Files that are replaced whole."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from embedded.judge import save
from hypothesis import given
from matplotlib.figure import Figure

from emokernel import EmotionVectors
from emokernel.atomic import UNFINISHED, encoded, replacing, save_figure, write_text
from emokernel.lab.calibrate.calibrator import Calibrated
from emokernel.lab.judges.judge import Judge
from emokernel.lab.report.plots.chart import Chart, Panel
from emokernel.lab.report.vectors_plot import plot_vectors
from emokernel.vectors.formats import FORMATS

VECTORS = EmotionVectors(("joy",), torch.ones(2, 1, 3), "block")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_takes_its_place_once_it_is_complete(tmp_path):
    path = tmp_path / "joy.txt"
    for text in ("new", "newer"):
        before = path.read_text() if path.exists() else None
        with replacing(path) as unfinished:
            assert unfinished.parent == tmp_path
            assert (unfinished.suffix, unfinished.read_bytes()) == (".txt", b"")
            unfinished.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text
    assert os.listdir(tmp_path) == ["joy.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "joy.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as unfinished:
            unfinished.write_text("ne")
            raise error

    with pytest.raises(error):
        fail()
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["joy.txt"])


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "joy.txt"
    (tmp_path / "joy.txt.part").write_text("mine")
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which ended last
    assert (tmp_path / "joy.txt.part").read_text() == "mine"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_open(mask, tmp_path):
    previous = os.umask(mask)
    try:
        write_text(tmp_path / "new", "text")
        VECTORS.save(tmp_path / "new.safetensors")
        VECTORS.save(tmp_path / "set", format="npy")
    finally:
        os.umask(previous)
    for name in ("new", "new.safetensors", "set/joy.npy"):
        assert mode(tmp_path / name) == 0o666 & ~mask
    (tmp_path / "new").chmod(0o640)
    write_text(tmp_path / "new", "text")
    assert mode(tmp_path / "new") == 0o640


def test_links_are_followed_and_devices_are_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "joy.txt")
    for text in ("new", "newer"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "joy.txt").read_text() == text
    write_text(os.devnull, "text")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/joy\.txt'"):
        write_text(tmp_path / "nowhere" / "joy.txt", "text")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_protected_file_is_not_replaced(tmp_path):
    (tmp_path / "joy.txt").write_text("old")
    (tmp_path / "joy.txt").chmod(0o444)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "joy.txt", "new")
    assert os.listdir(tmp_path) == ["joy.txt"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_replace(source, target):
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(tmp_path / "joy.txt", "text")
    assert done == ["file", "name", "folder"]


@given(st.text(st.characters()))
def test_text_reads_back_with_half_characters_as_escapes(text):
    assert encoded(text).decode() == text.encode("utf-8", "backslashreplace").decode()
    told = json.dumps({text: [text]}, ensure_ascii=False)
    assert json.loads(encoded(told)) == json.loads(json.dumps({text: [text]}))


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("plot", b"\x89PNG")]
)
def test_figures_are_of_the_format_of_the_ending(name, start, tmp_path):
    save_figure(Figure(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert os.listdir(tmp_path) == [name]


def judge(path):
    save(Judge.load(), path.parent)


WRITERS = {
    **{f"joy{FORMATS[name].endings[0]}": VECTORS.save for name in FORMATS},
    "plot.png": lambda path: plot_vectors(VECTORS, path),
    "chart.png": lambda path: Chart("chart", "", [Panel("", "", lambda axes: None)]).write(
        path.parent
    ),
    "rows.jsonl": Calibrated(VECTORS, (), {}).save_rows,
    "judge.safetensors": judge,
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_leaves_a_part(name, tmp_path, monkeypatch):
    """With a full disk at the end: the old file stays."""
    path = tmp_path / name
    path.write_bytes(b"old")
    own = tmp_path / f"{name}.part"
    own.write_bytes(b"mine")

    def full(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            WRITERS[name](path)
    assert (path.read_bytes(), own.read_bytes()) == (b"old", b"mine")
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert own.read_bytes() == b"mine"
    assert not [file for file in os.listdir(tmp_path) if file.startswith(UNFINISHED)]


def test_a_reader_never_sees_a_part(tmp_path):
    path = tmp_path / "joy.npz"
    sets = [EmotionVectors(("joy",), torch.full((4, 1, 64), float(n)), "block") for n in range(3)]
    sets[0].save(path)

    def save_often(vectors):
        for _ in range(15):
            vectors.save(path)

    writers = [threading.Thread(target=save_often, args=(vectors,)) for vectors in sets]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert EmotionVectors.load(path).num_layers == 4  # the checksum fits
    assert os.listdir(tmp_path) == ["joy.npz"]


def test_a_folder_of_emotions_is_written_beside_files_of_the_user(tmp_path):
    own = tmp_path / "set" / "joy.json.part"
    own.parent.mkdir()
    own.write_text("mine")
    left = tmp_path / "set" / f"{UNFINISHED}1.json"
    left.write_text("{}")  # of a process that was killed
    VECTORS.with_calibration(None).save(tmp_path / "set", format="npy")
    VECTORS.select(["joy"]).save(tmp_path / "set", format="npy")
    assert sorted(Path(tmp_path / "set").iterdir()) == sorted(
        [own, left, tmp_path / "set" / "joy.npy"]
    )
    assert own.read_text() == "mine"
    assert EmotionVectors.load(tmp_path / "set").names == ("joy",)


def test_a_file_that_cannot_be_replaced_is_overwritten(tmp_path, monkeypatch):
    """As one that is mounted by itself into a container."""

    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    target = tmp_path / "result.txt"
    target.write_text("something much longer than what follows")
    write_text(target, "short")
    assert target.read_text() == "short"
    assert [each.name for each in tmp_path.iterdir()] == ["result.txt"]


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    target = tmp_path / ("a." + "b" * 250)
    write_text(target, "text")
    assert target.read_text() == "text"
