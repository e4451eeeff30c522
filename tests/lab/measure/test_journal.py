"""The journal of a long run."""

from __future__ import annotations

import json
import os

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emokernel import EmokernelError
from emokernel.lab.measure.journal import Journal

SETTINGS = {"model": "m", "levels": (0.1, 0.2)}


def test_what_was_put_is_known_to_the_next_run(tmp_path):
    path = tmp_path / "journal"
    first = Journal(path, SETTINGS)
    first.put({"a": {"x": 0.1}, "b": 2})
    first.put({"c": [3]})
    again = Journal(path, SETTINGS)
    assert [again.get(key) for key in "abcd"] == [{"x": 0.1}, 2, [3], None]


def test_a_torn_line_is_dropped_and_written_over(tmp_path):
    path = tmp_path / "journal"
    Journal(path, SETTINGS).put({"a": 1, "b": 2})
    path.write_bytes(path.read_bytes()[:-5])
    torn = Journal(path, SETTINGS)
    assert (torn.get("a"), torn.get("b")) == (1, None)
    assert list(torn.items()) == [("a", 1)]
    torn.put({"b": 3})
    assert Journal(path, SETTINGS).get("b") == 3


def test_a_run_of_other_settings_is_refused_by_their_names(tmp_path):
    path = tmp_path / "journal"
    Journal(path, SETTINGS).put({"a": 1})
    with pytest.raises(EmokernelError, match=r"levels \(\[0\.1, 0\.2\], now \[0\.5\]\).*--restart"):
        Journal(path, {**SETTINGS, "levels": [0.5]})
    assert Journal(path, SETTINGS).get("a") == 1
    assert Journal(path, {"model": "n"}, restart=True).get("a") is None
    assert Journal(path, {"model": "n"}).get("a") is None


def test_a_new_beginning_erases_nothing(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, SETTINGS).put({"a": 1})
    contents = [path.read_bytes()]
    for content in (b"a letter", b"\xff\n", b""):
        assert Journal(path, SETTINGS, restart=True).get("a") is None
        path.write_bytes(content)
        contents.append(content)
    (tmp_path / "journal.jsonl.6").write_bytes(b"a gap")
    Journal(path, SETTINGS, restart=True).put({"a": 2})
    assert Journal(path, SETTINGS).get("a") == 2
    kept = [(tmp_path / f"journal.jsonl.{number}").read_bytes() for number in range(1, 5)]
    assert kept == contents
    assert len(list(tmp_path.iterdir())) == 6


def test_a_name_that_is_taken_meanwhile_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    path.write_bytes(b"old")
    (tmp_path / "journal.1").write_bytes(b"of another run")
    monkeypatch.setattr(os.path, "lexists", lambda name: False)  # it was not there a moment ago
    Journal(path, SETTINGS, restart=True)
    assert (tmp_path / "journal.1").read_bytes() == b"of another run"
    assert (tmp_path / "journal.2").read_bytes() == b"old"


def test_a_new_beginning_needs_nothing_to_begin_from(tmp_path):
    Journal(tmp_path / "journal", SETTINGS, restart=True).put({"a": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]
    assert Journal(tmp_path / "journal", SETTINGS).get("a") == 1


def test_a_journal_whose_first_line_is_torn_is_begun_anew(tmp_path):
    path = tmp_path / "journal"
    Journal(path, SETTINGS)
    line = path.read_bytes()
    for length in range(len(line)):
        path.write_bytes(line[:length])
        Journal(path, SETTINGS).put({"a": length})
        assert path.read_bytes().startswith(line)
        assert Journal(path, SETTINGS).get("a") == length
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        b"{}\n",
        b"\xff\n",
        b'{"settings": {}}\n[]\n',
        b"a letter",
        b"a letter\nwithout an end",
        b'{"setting": 1}',
        b'{"settings": {"theme": "dark"}}',
        b'{"settings": {\n  "theme": "dark"\n}}',
    ],
)
def test_what_is_no_journal_is_refused_and_left_as_it_is(content, tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(EmokernelError, match=r"journal is damaged: .* not a file of emokernel's"):
        Journal(path, SETTINGS)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None, SETTINGS)
    journal.put({"a": 1})
    assert journal.get("a") == 1
    assert list(tmp_path.iterdir()) == []


def test_lines_are_json(tmp_path):
    Journal(tmp_path / "journal", SETTINGS).put({"a": "ü"})
    lines = (tmp_path / "journal").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines][1] == {"key": "a", "value": "ü"}


@given(st.lists(st.text(st.characters()), max_size=4))
def test_any_text_is_kept(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("journal") / "journal"
    texts.append("half of a smile: \ud83d")
    journal = Journal(path, {"texts": texts})
    for number, text in enumerate(texts):
        journal.put({str(number): text})
    again = Journal(path, {"texts": texts})
    # Two halves in a row are one character to JSON, however they are written.
    expected = json.loads(json.dumps(texts))
    assert [again.get(str(number)) for number in range(len(texts))] == expected
    path.read_text("utf-8")


def test_what_cannot_be_written_leaves_the_journal_whole(tmp_path):
    journal = Journal(tmp_path / "journal", SETTINGS)
    with pytest.raises(TypeError):
        journal.put({"a": 1, "b": object()})
    assert journal.get("a") is None
    journal.put({"c": 2})
    assert list(Journal(tmp_path / "journal", SETTINGS).items()) == [("c", 2)]
