"""Reading human text with one label, and what is said of files that do not hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.ceiling import read_labelled


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "label\tid\ttext\nJoy\t1\tSo good!\nanger\t3\tStop\nneutral\t4\tWell\n"),
        ("a.jsonl", '{"text": "So good!", "label": "joy"}\n\n{"text": "Stop", "label": "Anger"}\n'
         '{"text": "Well", "label": null}'),
        ("a.json", '{"joy": ["So good!"], "anger": ["Stop"], "neutral": ["Well"]}'),
    ],
)  # fmt: skip
def test_the_types_of_files_that_queries_have(tmp_path, name, text):
    found = read_labelled(written(tmp_path, name, text))
    assert found == (["So good!", "Stop", "Well"], ["joy", "anger", "neutral"])


def test_numbers_are_named_by_the_file_beside(tmp_path):
    rows = "text\tlabel\nSo good!\t0\nStop it\t1\n"
    with pytest.raises(EmokernelError, match="the label '0' is a number without a name"):
        read_labelled(written(tmp_path, "test.tsv", rows))
    written(tmp_path, "labels.txt", "joy\nAnger\nneutral\n")
    assert read_labelled(str(tmp_path / "test.tsv")) == (["So good!", "Stop it"], ["joy", "anger"])


def test_goemotions_is_read_as_it_is_released(tmp_path):
    written(tmp_path, "labels.txt", "joy\nanger\nneutral\n")
    rows = 'So "good!\t0\tid1\nBoth\t0,1\tid2\nStop it\t1\tid3\nWell\t2\tid4\n'
    found = read_labelled(written(tmp_path, "test.tsv", rows))
    assert found == (['So "good!', "Stop it", "Well"], ["joy", "anger", "neutral"])
    with pytest.raises(EmokernelError, match=r"a\.tsv, line 2: needs a text, a tab and numbers"):
        read_labelled(written(tmp_path, "a.tsv", "Fine\t0\tid1\nno label\n"))


def test_a_data_set_of_the_hub_is_read_by_its_test_split(monkeypatch):
    asked = []

    def dataset(name, *, split, **_):
        asked.append((name, split))
        return type("", (), {"rows": (("joy", "a"), (None, "b"))})

    monkeypatch.setattr("emokernel.lab.extract.datasets.labelled_dataset", dataset)
    assert read_labelled("hub:owner/name") == (["a", "b"], ["joy", "neutral"])
    assert asked == [("owner/name", "test")]


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file of texts: .*nowhere\.tsv"):
        read_labelled(str(tmp_path / "nowhere.tsv"))
    with pytest.raises(EmokernelError, match=r"texts are read from \.json"):
        read_labelled(written(tmp_path, "a.csv", "a,joy"))
    with pytest.raises(EmokernelError, match="none is the label"):
        read_labelled(written(tmp_path, "a.tsv", "text\tb\nc\td\n"))
