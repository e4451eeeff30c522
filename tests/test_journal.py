"""The journal of a long run."""

from __future__ import annotations

import json

import pytest

from emokernel import EmokernelError
from emokernel.journal import Journal

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
    with pytest.raises(EmokernelError, match=r'levels \(\[0\.1, 0\.2\], now \[0\.5\]\).*--restart'):
        Journal(path, {**SETTINGS, "levels": [0.5]})
    assert Journal(path, SETTINGS).get("a") == 1
    assert Journal(path, {"model": "n"}, restart=True).get("a") is None
    assert Journal(path, {"model": "n"}).get("a") is None


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\n", b'{"settings": {}}\n[]\n'])
def test_what_is_no_journal_is_refused(content, tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(EmokernelError, match="journal is damaged: begin anew"):
        Journal(path, SETTINGS)


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
