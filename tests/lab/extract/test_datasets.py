"""Readers of labelled texts: what they take, what they drop, what they refuse."""

from __future__ import annotations

import hashlib
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.lab.extract.datasets import labelled_dataset, read_labelled
from emokernel.lab.extract.labelled_texts import contrasted
from emokernel.lab.extract.queries import Queries
from emokernel.lab.extract.text_files import parse_rows

ROWS = (("joy", "The sun is out."), ("fear", "Who is there?"), (None, "It is noon."))
BY_EMOTION = {"joy": ["The sun is out."], "fear": ["Who is there?"], "neutral": ["It is noon."]}
# One line of text; whether it is distinct from another is decided without case and spacing.
LINES = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30
).filter(str.strip)
EMOTIONS = st.sampled_from(["joy", "fear", "quiet joy", None])


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def as_json(rows):
    classes = {}
    for emotion, text in rows:
        classes.setdefault(emotion or "neutral", []).append(text)
    return json.dumps(classes)


def as_jsonl(rows):
    return "\n".join(json.dumps({"text": text, "emotion": emotion}) for emotion, text in rows)


def as_tsv(rows):
    lines = (f"{text}\t{emotion or 'neutral'}" for emotion, text in rows)
    return "\n".join(["text\temotion", *lines, ""])


WRITERS = {"json": as_json, "jsonl": as_jsonl, "tsv": as_tsv}


@pytest.mark.parametrize("kind", WRITERS)
@given(rows=st.lists(st.tuples(EMOTIONS, LINES), min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory, kind, rows):
    path = write(tmp_path_factory.mktemp("texts"), f"texts.{kind}", WRITERS[kind](rows))
    read = read_labelled(path)
    expected = {}
    for emotion, text in rows:
        expected.setdefault((emotion, " ".join(text.casefold().split())), (emotion, text.strip()))
    assert set(read.rows) == set(expected.values())
    assert len(read.rows) == len(expected) == read.provenance["texts"]
    dropped = sum(read.provenance["duplicates dropped"].values())
    assert dropped == len(rows) - len(expected)
    assert read.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@given(content=st.binary(max_size=60), kind=st.sampled_from([*WRITERS]))
def test_no_bytes_make_a_reader_crash(tmp_path_factory, content, kind):
    path = tmp_path_factory.mktemp("bytes") / f"texts.{kind}"
    path.write_bytes(content)
    try:
        read = read_labelled(path)
    except EmokernelError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(text.strip() for _, text in read.rows)


@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
))  # fmt: skip
def test_json_of_any_shape_is_read_or_refused(tmp_path_factory, value):
    path = write(tmp_path_factory.mktemp("shapes"), "texts.json", value)
    try:
        read = read_labelled(path)
    except EmokernelError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert read.rows


def test_columns_stand_in_any_order_and_quotation_marks_are_text(tmp_path):
    path = write(tmp_path, "a.tsv", 'id\tlabel\tquery\r\n7\tJoy \t"Well," she said.\r\n\r\n')
    assert read_labelled(path).rows == (("joy", '"Well," she said.'),)
    named = write(tmp_path, "b.tsv", "said\tfelt\nHello there.\tjoy\n")
    assert read_labelled(named, text="said", label="felt").rows == (("joy", "Hello there."),)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path, "a.tsv", "\ufefftext\temotion\na\tjoy\n")
    assert read_labelled(path).rows == (("joy", "a"),)


def test_numbers_become_the_names_that_are_given(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": "0"}\n')
    names = ["joy", "neutral"]
    assert read_labelled(path, label_names=names).rows == ((None, "a"), ("joy", "b"))


def test_the_shipped_form_states_name_and_licence(tmp_path):
    content = {"name": "mine", "licence": "CC0-1.0", "version": 3, "description": "x",
               "emotions": {"joy": ["a"]}, "neutral": ["b"]}  # fmt: skip
    read = read_labelled(write(tmp_path, "a.json", content))
    assert read.rows == (("joy", "a"), (None, "b"))
    facts = {key: read.provenance[key] for key in ("name", "licence", "version")}
    assert facts == {"name": "mine", "licence": "CC0-1.0", "version": 3}
    plain = write(tmp_path, "b.json", {"joy": ["a"]})
    assert read_labelled(plain).provenance["licence"] == "not stated"
    assert read_labelled(plain).provenance["name"] == "b.json"


def test_duplicates_are_dropped_and_counted_by_class(tmp_path):
    path = write(tmp_path, "a.json", {"joy": ["Yes!", "yes! ", "No."], "fear": ["Yes!"]})
    read = read_labelled(path)
    assert read.rows == (("joy", "Yes!"), ("joy", "No."), ("fear", "Yes!"))
    assert read.provenance["duplicates dropped"] == {"joy": 1}


def test_a_flat_list_is_neutral_or_labelled_by_rows(tmp_path):
    path = write(tmp_path, "a.json", ["a", "b", "c", "d", "e"])
    assert read_labelled(path).rows == tuple((None, text) for text in "abcde")
    read = read_labelled(path, rows=parse_rows("joy=0:2, neutral=3:4"))
    assert read.rows == (("joy", "a"), ("joy", "b"), (None, "d"))
    assert read.provenance["rows without a label, left out"] == 2
    full = read_labelled(path, rows={"neutral": (2, 5), "joy": (0, 2)})
    assert [emotion for emotion, _ in full.rows] == ["joy", "joy", None, None, None]
    assert "rows without a label, left out" not in full.provenance


def test_queries_and_texts_come_from_the_same_files(tmp_path):
    path = write(tmp_path, "a.json", BY_EMOTION)
    queries = Queries.read(path)
    assert queries.rows == ROWS
    assert queries.provenance["name"] == "a.json"
    assert contrasted(read_labelled(path)) == BY_EMOTION


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,emotion\n", "read from .json, .jsonl, .tsv files"),
        ("a.json", "{", "no JSON file"),
        ("a.json", "", "no JSON file"),
        ("a.json", "[" * 100_000, "no JSON file"),
        ("a.json", "7", "needs emotions with their texts"),
        ("a.json", "{}", "needs emotions with their texts"),
        ("a.json", "[]", "holds no texts"),
        ("a.json", {"joy": "one"}, "'joy' needs a list of texts"),
        ("a.json", {"joy": []}, "'joy' has no texts"),
        ("a.json", {"joy": ["a", " "]}, "text 1 of 'joy': an empty text"),
        ("a.json", '{"joy": ["a", "b \\ud83d"]}', "text 1 of 'joy': .* half a character"),
        ("a.json", {"joy": ["a", 7]}, "text 1 of 'joy': '7' is no text"),
        ("a.json", {"joy": [["a"]]}, "is no text"),
        ("a.json", '{"joy": ["a"], "joy": ["b"]}', "the key 'joy' is given twice"),
        ("a.json", {"3": ["a"]}, "text 0 of '3': the label '3' is a number without a name"),
        ("a.json", {" ": ["a"]}, "an empty name of an emotion"),
        ("a.jsonl", '{"text": "a"}', r"of the columns text none is the label.*label="),
        ("a.jsonl", '{"text": "a", "emotion": "joy"}\n{', "line 2 is no JSON"),
        ("a.jsonl", '["a", "joy"]', "line 1 needs an object"),
        ("a.jsonl", '{"text": "a", "emotion": true}', "line 1: 'True' is no name"),
        ("a.jsonl", '{"text": "a", "emotion": 4}', "line 1: the label 4 is a number without"),
        ("a.jsonl", "", "holds no texts"),
        ("a.tsv", "Hello there.\tjoy\nMe too.\tjoy\n", "line 2: .* none is the label"),
        ("a.tsv", "text\tquery\temotion\na\tb\tjoy\n", "text and query could both be the text"),
        ("a.tsv", "text\temotion\na\tjoy\nb\n", "line 3 has 1 columns, the first row names 2"),
        ("a.tsv", "text\temotion\na\t3\n", "line 2: the label '3' is a number without"),
        ("a.tsv", "text\temotion\n", "holds no texts"),
        ("a.tsv", "Hello there.\tjoy\n", "holds no texts.*first row of a .tsv file"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(EmokernelError, match=message) as refused:
        read_labelled(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_missing_or_not_utf8(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of texts"):
        read_labelled(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(EmokernelError, match="not UTF-8"):
        read_labelled(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "txt"}, "no column 'txt'. Did you mean 'text'"),
        ({"label": "mood"}, "no column 'mood'. Known: text, emotion"),
        ({"label_names": ["joy"]}, "line 2: label 2 has no name among 1 names"),
        ({"rows": {"joy": (0, 1)}}, "these texts have labels"),
    ],
)
def test_arguments_that_do_not_fit_the_file(tmp_path, arguments, message):
    path = write(tmp_path, "a.tsv", "text\temotion\na\t2\n")
    with pytest.raises(EmokernelError, match=message):
        read_labelled(path, **arguments)


def test_rows_with_several_labels_are_left_out_and_counted(tmp_path):
    path = write(tmp_path, "a.tsv", "text\temotion\na\t0,1\nb\t1\n")
    read = read_labelled(path, label_names=["joy", "fear"])
    assert list(read) == [("fear", "b")]
    assert read.provenance["rows without exactly one label, left out"] == 1
    lines = [{"text": "a", "emotion": ["joy"]}, {"text": "b", "emotion": ["joy", "fear"]}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert list(read_labelled(path)) == [("joy", "a")]
    path = write(tmp_path, "b.tsv", "text\temotion\na\t0,1\n")
    with pytest.raises(EmokernelError, match="1 rows have not exactly one label"):
        read_labelled(path, label_names=["joy", "fear"])


def test_a_table_without_names_of_columns_is_told_so(tmp_path):
    path = write(tmp_path, "a.tsv", "It is cold\t27\nI am sad\t25\n")
    with pytest.raises(EmokernelError, match=r"--label-column.* first row of a \.tsv file is"):
        read_labelled(path, label_names=["joy"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"joy": (0, 4)}, "rows 0 to 4 of 'joy' are no part of its 3 rows"),
        ({"joy": (1, 1)}, "rows 1 to 1"),
        ({"joy": (-1, 2)}, "rows -1 to 2"),
        ({"joy": (0, 2), "fear": (1, 3)}, "row 1 is in the ranges of 'joy' and 'fear'"),
        ({}, "no row ranges given"),
    ],
)
def test_row_ranges_that_do_not_fit_the_list(tmp_path, rows, message):
    path = write(tmp_path, "a.json", ["a", "b", "c"])
    with pytest.raises(EmokernelError, match=message):
        read_labelled(path, rows=rows)


def test_row_ranges_label_no_texts_that_have_labels(tmp_path):
    with pytest.raises(EmokernelError, match=r"hub:me/mine\.json: .* these texts have labels"):
        read_labelled("hub:me/mine.json", rows={"joy": (0, 1)})
    with pytest.raises(EmokernelError, match="these texts have labels"):
        read_labelled(write(tmp_path, "a.json", BY_EMOTION), rows={"joy": (0, 1)})


@pytest.mark.parametrize("text", ["", "joy", "joy=1", "joy=1:b", "=1:2", "joy=1:2,", "joy=-1:2"])
def test_row_ranges_that_are_none(text):
    with pytest.raises(EmokernelError, match="labels no rows: write emotion=first:end"):
        parse_rows(text)


def test_row_ranges_are_parsed():
    assert parse_rows("joy=0:50,quiet joy = 50:90") == {"joy": (0, 50), "quiet joy": (50, 90)}
    with pytest.raises(EmokernelError, match="rows of 'joy' twice"):
        parse_rows("joy=0:1,joy=1:2")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"joy": ["a"]}, "no class 'neutral'.*among joy: add neutral texts$"),
        ({"joy": ["a"], "neutrl": ["b"]}, "is 'neutrl' meant to be it"),
        ({"neutral": ["a"]}, "all texts are neutral"),
    ],
)
def test_given_texts_need_a_contrast(tmp_path, classes, message):
    with pytest.raises(EmokernelError, match=message):
        contrasted(read_labelled(write(tmp_path, "a.json", classes)))


class TestHuggingFace:
    @pytest.fixture(autouse=True)
    def _needs_the_package(self, monkeypatch, tmp_path):
        self.datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(self.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(self.datasets.config, "HF_DATASETS_OFFLINE", True)

    def table(self, **columns):
        return self.datasets.Dataset.from_dict(columns)

    def test_class_labels_become_their_names(self):
        table = self.table(sentence=["a", "b", "c"], label=[1, 0, 2])
        names = self.datasets.ClassLabel(names=["joy", "neutral", "fear"])
        read = labelled_dataset(table.cast_column("label", names))
        assert read.rows == ((None, "a"), ("joy", "b"), ("fear", "c"))
        assert read.provenance["split"] == "train"
        assert re.fullmatch("[0-9a-f]{64}", read.provenance["sha256"])

    def test_of_lists_of_labels_the_rows_with_one_are_taken(self):
        table = self.table(text=["a", "b", "c"], labels=[[1], [0, 1], []])
        label = self.datasets.ClassLabel(names=["joy", "fear"])
        table = table.cast_column("labels", self.datasets.List(label))
        read = labelled_dataset(table)
        assert read.rows == (("fear", "a"),)
        assert read.provenance["rows without exactly one label, left out"] == 2

    def test_a_folder_of_files_and_what_is_loaded_already(self, tmp_path):
        table = self.table(text=["a", "b"], emotion=["joy", "neutral"])
        (tmp_path / "files").mkdir()
        table.to_json(tmp_path / "files" / "test.jsonl")
        expected = (("joy", "a"), (None, "b"))
        for source in (tmp_path / "files", self.datasets.DatasetDict(test=table)):
            assert labelled_dataset(source, split="test").rows == expected
        assert labelled_dataset(table).emotions == ("joy",)

    def test_what_does_not_fit_is_an_error(self, tmp_path):
        table = self.table(text=["a", "b"], emotion=[0, 1])
        with pytest.raises(EmokernelError, match="row 0: the label 0 is a number without a name"):
            labelled_dataset(table)
        named = labelled_dataset(table, label_names=["joy", "fear"])
        assert named.rows == (("joy", "a"), ("fear", "b"))
        with pytest.raises(EmokernelError, match=r"no column 'txt'\. Did you mean 'text'"):
            labelled_dataset(table, text="txt")
        with pytest.raises(EmokernelError, match="no split 'train': choose one of test"):
            labelled_dataset(self.datasets.DatasetDict(test=table))
        with pytest.raises(EmokernelError, match="int is no dataset"):
            labelled_dataset(7)
        with pytest.raises(EmokernelError, match="row 1: an empty text"):
            labelled_dataset(self.table(text=["a", ""], emotion=["joy", "joy"]))
        with pytest.raises(FileNotFoundError, match="nowhere"):
            labelled_dataset(tmp_path / "nowhere")
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "data.json").write_text("{", "utf-8")
        with pytest.raises(EmokernelError, match="broken cannot be read"):
            labelled_dataset(tmp_path / "broken")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EmokernelError, match=r"pip install 'emokernel\[lab\]'"):
        labelled_dataset("somebody/something")
    with pytest.raises(EmokernelError, match=r"pip install 'emokernel\[lab\]'"):
        read_labelled("hub:somebody/something", text="text")
