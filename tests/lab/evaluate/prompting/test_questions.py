"""Questions and queries: the package's own, and those of files."""

from __future__ import annotations

import json
import re

import pytest

from emokernel import EmokernelError
from emokernel.affect import Coordinates
from emokernel.demo.model import openings
from emokernel.lab.evaluate.prompting import read_lines
from emokernel.lab.evaluate.prompting.prompts import shipped
from emokernel.lab.extract.labelled_texts import normalised
from emokernel.lab.extract.queries import Queries


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.casefold()))


def test_ten_questions_of_which_two_are_the_papers_and_fifty_queries():
    own = shipped("questions")
    assert len(own["questions"]) == 10
    assert len(own["queries"]) == 50
    assert own["questions"][:2] == [
        "What does freedom mean to you?",
        "What are your thoughts on the importance of art in society?",
    ]
    assert len({normalised(text) for text in own["questions"] + own["queries"]}) == 60
    assert "the other eight are emokernel's own" in own["notes"][0]


def test_none_is_a_query_that_vectors_are_made_or_calibrated_with():
    taken = {
        normalised(query.text) for of in (Queries.shipped(), Queries.openings()) for query in of
    }
    taken |= {normalised(opening) for opening in openings()}
    assert len(taken) > 900
    own = shipped("questions")
    assert taken.isdisjoint(normalised(t) for t in own["questions"] + own["queries"])


def test_none_names_an_emotion():
    tables = [Coordinates.named(name) for name in ("russell", "glasgow")]
    named = {label for table in tables for label in table} | set(Queries.shipped().emotions)
    named |= {"feel", "feeling", "feelings", "emotion", "emotions", "mood", "happiness", "scared"}
    assert {"joy", "tired", "tense"} <= named
    own = shipped("questions")
    for text in own["questions"] + own["queries"]:
        assert not named & words(text), text


def test_a_text_file_has_one_on_each_line(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("\ufeffWhat is a home?\r\n\n  [Why] so?  \n", "utf-8")
    assert read_lines(path) == ("What is a home?", "[Why] so?")


def test_a_json_file_is_a_list(tmp_path):
    path = tmp_path / "own.JSON"
    path.write_text(json.dumps(["What is a home?", " Two\nlines "]), "utf-8")
    assert read_lines(str(path)) == ("What is a home?", "Two\nlines")


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no such file of questions.*{path}"):
            read_lines(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "there is no text: give at least one"),
        ("a.txt", b" \n\n", "there is no text"),
        ("a.txt", b"Why?\nwhy?\n", r"'why\?' occurs more than once"),
        ("a.txt", b"\xff\xfe\xff", "is not UTF-8"),
        ("a.json", b"[]", "there is no text"),
        ("a.json", b'["Why?", "Why?"]', "occurs more than once"),
        ("a.json", b'["Why?", " "]', "none of them empty"),
        ("a.json", b'["Why?", 3]', "a list of texts is needed"),
        ("a.json", b'{"a": "b"}', "holds no JSON list"),
        ("a.json", b'"Why?"', "holds no JSON list"),
        ("a.json", b"Why?", "is no JSON"),
        ("a.json", b"[" * 100000, "is no JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_cannot_be_used_is_named_with_the_fault(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EmokernelError, match=rf"{name}.*{message}"):
        read_lines(path)
