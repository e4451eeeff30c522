"""The store: what is in it is found again, what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emokernel import EmokernelError
from emokernel.atomic import UNFINISHED
from emokernel.lab.extract.store import Store, remove

SETTINGS = {"site": "block", "layers": (0, 2), "seed": 0}


def test_rows_are_found_again(tmp_path):
    store = Store(tmp_path / "s", SETTINGS)
    store.allocate(2, 3, 4)
    assert store.rows.shape == (2, 3, 4)
    assert not store.done.any()
    rows = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    store.write([2, 0], rows, rows[..., 0])
    again = Store(tmp_path / "s", SETTINGS)
    again.allocate(2, 3, 4)
    np.testing.assert_array_equal(again.rows[:, [2, 0]], rows)
    np.testing.assert_array_equal(again.lengths[:, [2, 0]], rows[..., 0])
    assert again.done.tolist() == [1, 0, 1]


def test_other_settings_are_named_unless_it_starts_anew(tmp_path):
    store = Store(tmp_path, SETTINGS)
    store.allocate(2, 3, 4)
    store.done[:] = 1
    with pytest.raises(EmokernelError, match=r'seed \(0, now 1\), site \("block", now null\);'):
        Store(tmp_path, {"layers": [0, 2], "seed": 1})
    assert (tmp_path / "done.u8").read_bytes() == b"\1\1\1"
    anew = Store(tmp_path, {"seed": 1}, restart=True)
    anew.allocate(2, 3, 4)
    assert not anew.done.any()


def test_answers_are_found_again_up_to_a_torn_line(tmp_path):
    store = Store(tmp_path, SETTINGS)
    assert store.answers() == {}
    lines = [{"prompt": n, "answer": f"ja, «{n}»", "tokens": [n]} for n in range(3)]
    store.append(lines[:2])
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"key": "2", "val')
    again = Store(tmp_path, SETTINGS)
    assert again.answers() == {0: lines[0], 1: lines[1]}
    again.append(lines[2:])
    assert Store(tmp_path, SETTINGS).answers() == dict(enumerate(lines))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.f32", b"short"),
        ("journal.jsonl", b"no json\n"),
    ],
)
def test_a_damaged_store_is_refused(name, content, tmp_path):
    Store(tmp_path, SETTINGS).allocate(2, 3, 4)
    (tmp_path / name).write_bytes(content)

    def read_all():
        store = Store(tmp_path, SETTINGS)
        store.answers()
        store.allocate(2, 3, 4)

    with pytest.raises(EmokernelError, match=rf"{name} is damaged: begin anew with --restart"):
        read_all()


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EmokernelError, match="no store of an extraction"):
        Store(tmp_path, SETTINGS)
    with pytest.raises(EmokernelError, match=r"thesis\.txt"):
        Store(tmp_path, SETTINGS, restart=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_removed_store_is_gone(tmp_path):
    store = Store(tmp_path / "s", SETTINGS)
    store.allocate(2, 3, 4)
    store.append([{"prompt": 0}])
    remove(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
    remove(tmp_path / "s")


def test_texts_are_marked_only_once_their_rows_are_on_the_disk(tmp_path, monkeypatch):
    store = Store(tmp_path, SETTINGS)
    store.allocate(2, 3, 4)
    flushed = []
    flush = np.memmap.flush

    def watched(self):
        assert not store.done[[0, 2]].any()
        flushed.append(Path(self.filename).name)
        flush(self)

    monkeypatch.setattr(np.memmap, "flush", watched)
    store.write([0, 2], np.ones((2, 2, 4), np.float32), np.ones((2, 2), np.float32))
    assert set(flushed) == {"rows.f32", "lengths.f32"}
    assert store.done.tolist() == [1, 0, 1]


@pytest.mark.parametrize("lost", ["rows.f32", "lengths.f32"])
def test_rows_that_never_reached_the_disk_are_not_marked(lost, tmp_path, monkeypatch):
    store = Store(tmp_path, SETTINGS)
    store.allocate(2, 3, 4)
    store.write([1], np.ones((2, 1, 4), np.float32), np.ones((2, 1), np.float32))

    def crash(self):
        if Path(self.filename).name == lost:
            raise InterruptedError("unplugged")

    with monkeypatch.context() as patched:
        patched.setattr(np.memmap, "flush", crash)
        with pytest.raises(InterruptedError):
            store.write([0], np.ones((2, 1, 4), np.float32), np.ones((2, 1), np.float32))
    again = Store(tmp_path, SETTINGS)
    again.allocate(2, 3, 4)
    assert again.done.tolist() == [0, 1, 0]
    (tmp_path / lost).unlink()
    without = Store(tmp_path, SETTINGS)
    without.allocate(2, 3, 4)
    assert not without.done.any()


def test_an_unfinished_file_is_the_stores_own(tmp_path):
    Store(tmp_path / "s", SETTINGS).allocate(2, 3, 4)
    (tmp_path / "s" / f"{UNFINISHED}1.f32").write_bytes(b"a killed process")
    again = Store(tmp_path / "s", SETTINGS)
    again.allocate(2, 3, 4)
    remove(tmp_path / "s")
    assert not (tmp_path / "s").exists()
