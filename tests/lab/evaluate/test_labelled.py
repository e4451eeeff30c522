"""Reading human text with one label, and what is said of files that do not hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.labelled import read_labelled


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


def test_goemotions(tmp_path):
    written(tmp_path, "labels.txt", "joy\nAnger\nneutral\n")
    rows = "So good!\t0\tid1\nHm, well\t0,1\tid2\r\nStop it\t1\tid3\n"
    found = read_labelled(written(tmp_path, "test.tsv", rows))
    assert found == (["So good!", "Stop it"], ["joy", "anger"])


@pytest.mark.parametrize(
    "text",
    ["So good!\tJoy\nBoth\tjoy,anger\n\nStop\tanger\n",
     "label\tid\ttext\nJoy\t1\tSo good!\njoy,anger\t2\tBoth\nanger\t3\tStop\n"],
)  # fmt: skip
def test_tsv_with_names_with_or_without_a_header(tmp_path, text):
    found = read_labelled(written(tmp_path, "a.tsv", text))
    assert found == (["So good!", "Stop"], ["joy", "anger"])


def test_json_of_queries_and_null_are_read(tmp_path):
    content = '{"joy": ["So good!", "So good!"], "Neutral": ["Well"]}'
    found = read_labelled(written(tmp_path, "a.json", content))
    assert found == (["So good!", "So good!", "Well"], ["joy", "joy", "neutral"])
    found = read_labelled(written(tmp_path, "a.jsonl", '{"text": "Well", "label": null}'))
    assert found == (["Well"], ["neutral"])


def test_json_lines(tmp_path):
    written(tmp_path, "labels.txt", "joy\nanger")
    rows = (
        '{"text": "a", "label": "joy"}\n{"text": "b", "label": 1}\n\n{"text": "c", "label": []}\n'
        '{"text": "d", "labels": [0, 1]}\n{"text": "e", "labels": [1]}'
    )
    found = read_labelled(written(tmp_path, "a.jsonl", rows))
    assert found == (["a", "b", "e"], ["joy", "anger", "anger"])


def test_a_data_set_of_the_hub_is_read_by_its_test_split(monkeypatch):
    asked = []

    def dataset(name, *, split, **_):
        asked.append((name, split))
        return type("", (), {"rows": (("joy", "a"), (None, "b"))})

    monkeypatch.setattr("emokernel.lab.extract.datasets.labelled_dataset", dataset)
    assert read_labelled("hub:owner/name") == (["a", "b"], ["joy", "neutral"])
    assert asked == [("owner/name", "test")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tjoy,anger\n", "no row has exactly one label"),
        ("a.tsv", "", "no row has exactly one label"),
        ("a.tsv", "a text\n", "line 1: needs a text, a tab and its labels"),
        ("a.tsv", " \tjoy\n", "line 1: ' ' is no text"),
        ("a.tsv", "a\t7\n", r"line 1: the label 7 is a number .* labels\.txt"),
        ("a.tsv", "a\t\n", "line 1: '' is no name of a label"),
        ("a.jsonl", '{"text": "a"}', "line 1 needs a text and a label"),
        ("a.jsonl", "[1]", "line 1 needs a text and a label"),
        ("a.jsonl", "\n{", "line 2 is no JSON"),
        ("a.jsonl", '{"text": "a", "label": true}', "'True' is no name"),
        ("a.jsonl", '{"text": 3, "label": "joy"}', "'3' is no text"),
        ("a.csv", "a,joy", r"from \.tsv, \.jsonl, \.json files"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, name, text, message):
    with pytest.raises(EmokernelError, match=message):
        read_labelled(written(tmp_path, name, text))


def test_a_missing_file_and_other_encodings_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file of labelled texts: .*nowhere\.tsv"):
        read_labelled(str(tmp_path / "nowhere.tsv"))
    (tmp_path / "a.tsv").write_bytes(b"caf\xe9\tjoy\n")
    with pytest.raises(EmokernelError, match=r"a\.tsv is not UTF-8"):
        read_labelled(str(tmp_path / "a.tsv"))
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(EmokernelError, match=r"labels\.txt is not UTF-8"):
        read_labelled(written(tmp_path, "b.tsv", "Fine\t0\n"))
