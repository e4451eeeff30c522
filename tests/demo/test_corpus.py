"""The split of the corpus, on a tiny made-up data folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedded.clean import clean
from embedded.corpus import heldout_examples, language_examples, training_half
from embedded.relabel import Example, relabel

LABELS = ("anger", "joy", "fear", "sadness", "disgust", "surprise", "annoyance", "disapproval",
          "amusement", "excitement", "gratitude", "love", "optimism", "admiration", "relief",
          "nervousness", "disappointment", "grief", "remorse", "realization", "confusion",
          "neutral")  # fmt: skip
NOUNS = "dog cat house garden street letter teacher doctor brother sister".split()
JOYFUL = "We are so happy about the {} and the {}."
ANGRY = "I am so angry about the {} and the {}!"


def _key(text: str) -> str:
    return text.lower().rstrip(".!? ")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """300 comments, some of them twice, and subtitle lines that partly repeat them."""
    (tmp_path / "goemotions").mkdir()
    (tmp_path / "xed").mkdir()
    (tmp_path / "goemotions" / "labels.txt").write_text("\n".join(LABELS) + "\n")
    rows = []
    for number in range(300):
        template, label = ((JOYFUL, 1), (ANGRY, 0))[number % 2]
        text = template.format(NOUNS[number // 2 % 10], NOUNS[number // 20 % 10])
        rows.append(f"{text}\t{label}\tid{number}")
        if number % 3 == 0:
            rows.append(f"{text.upper()}\t{label}\tcopy{number}")
    (tmp_path / "goemotions" / "train.tsv").write_text("\n".join(rows) + "\n")
    for part, noun in (("dev", "train"), ("test", "boat")):
        lines = [f"{JOYFUL.format(noun, other)}\t1\t{part}{other}" for other in NOUNS]
        (tmp_path / "goemotions" / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    xed = [f"{JOYFUL.format(left, 'dog')}\t5, 8" for left in NOUNS]
    xed += [f"{JOYFUL.format('train', right)}\t5" for right in NOUNS]
    xed += [f"I am so angry about the {noun} today !\t1" for noun in NOUNS * 2]
    xed += [f"We are so happy about the {noun} today .\t1" for noun in NOUNS * 2]
    (tmp_path / "xed" / "en-annotated.tsv").write_text("\n".join(xed) + "\n")
    (tmp_path / "xed" / "neu_en.txt").write_text(
        "".join(f"9\tThe {noun} is in the garden today.\n" for noun in NOUNS)
    )
    return tmp_path


def test_no_text_is_in_two_parts(data: Path) -> None:
    language = {_key(example.text) for example in language_examples(data)}
    judge = {_key(clean(example.text) or "") for example in training_half(data, "judge")}
    held = {
        _key(example.text)
        for example in heldout_examples(data, "dev") + heldout_examples(data, "test")
    }
    assert len(language) > 20
    assert len(judge) > 20
    assert not language & judge
    assert not language & held


def test_the_split_is_the_same_each_time(data: Path) -> None:
    assert training_half(data, "judge") == training_half(data, "judge")
    assert language_examples(data) == language_examples(data)


def test_both_halves_together_are_the_training_text(data: Path) -> None:
    rows = (data / "goemotions" / "train.tsv").read_text().splitlines()
    everything = {_key(row.split("\t")[0]) for row in rows}
    judge, language = (
        {_key(example.text) for example in training_half(data, half)}
        for half in ("judge", "language")
    )
    assert not judge & language
    assert judge | language == everything
    assert language <= {_key(example.text) for example in language_examples(data)}
    assert 0.3 < len(judge) / len(everything) < 0.7


def test_lines_have_the_emotion_that_they_show(data: Path) -> None:
    lines = {e.text: e.emotions for e in language_examples(data)}
    assert lines["I am so angry about the dog today!"] == ("anger",)
    assert lines["We are so happy about the dog today."] == ("joy",)
    wrong = [text for text, names in lines.items() if "angry" in text and names == ("joy",)]
    assert wrong == []


def test_a_label_far_from_the_text_is_withdrawn() -> None:
    reference = [Example(f"I am so angry about the {n}!", ("anger",)) for n in NOUNS]
    reference += [Example(f"We are happy with our {n}.", ("joy",)) for n in NOUNS]
    lines = [
        Example("I am so angry about the dog!", ("joy",)),
        Example("I am so angry about the dog!", ("joy", "anger")),
        Example("We are happy with our dog.", ("joy",)),
    ]
    found = [line.emotions for line in relabel(lines, reference * 100, LABELS)]
    assert found == [(), ("anger",), ("joy",)]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--data must name a folder"):
        heldout_examples(tmp_path, "dev")


def test_examples_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Example("Hello there.", ()).text = "changed"
