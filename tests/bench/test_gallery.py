"""The gallery: what fails in a text, how a page shows it, and all of it from end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import gallery
import numpy as np
import pytest
from gallery_failures import (
    CUT,
    IGNORED,
    KINDS,
    LOOPS,
    OFF_TOPIC,
    REDRAWN,
    UNHEARD,
    UNSTEERED,
    Failures,
    Text,
)
from gallery_page import escaped
from word_model import NAMES, WordJudge, word_tokenizer, word_vectors

from emokernel import EmokernelError, bench
from emokernel.affect import Coordinates
from emokernel.lab.evaluate.prompting.prompts import shipped
from emokernel.lab.extract.labelled_texts import normalised
from emokernel.vectors.calibration import Calibration

RUSSELL = Coordinates.named("russell")
# Of the last emotion no dose has an effect.
CALIBRATION = Calibration(
    "block", (1.0,) * 3, "preserve", "absolute", "wheel", "russell",
    {"preserve absolute": dict.fromkeys(NAMES[:3], 2.0) | {NAMES[3]: 0.0}}, {},
)  # fmt: skip
FINE = Text("joy", "Why?", 0, "Because.", False, 0, 0.0, 0.5, "joy")


def plain(topics=(0.5,) * 20):
    return [replace(FINE, mood=UNSTEERED, topic=topic, top="neutral") for topic in topics]


def failing(*texts):
    return Failures([*plain(), *texts], RUSSELL.points)


def test_the_questions_are_asked_nowhere_else():
    own = gallery.QUESTIONS.read_text("utf-8").splitlines()
    queries = json.loads((files("emokernel.lab.extract") / "queries.json").read_text("utf-8"))
    others = [*shipped("questions")["questions"], *shipped("questions")["queries"]]
    others += [each for of in queries["emotions"].values() for each in of]
    others += queries["neutral"]
    assert len({normalised(each) for each in own}) == len(own) == 20
    assert not {normalised(each) for each in own} & {normalised(each) for each in others}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, set()),
        ({"repeated": 0.31}, {LOOPS}),
        ({"topic": 0.49}, {OFF_TOPIC, IGNORED}),
        ({"topic": 0.49, "top": "neutral"}, {OFF_TOPIC, UNHEARD}),
        ({"top": "sadness"}, {UNHEARD}),
        ({"top": "love"}, set()),
        ({"top": None}, {UNHEARD}),
        ({"cut": True, "redrawn": 1}, {CUT, REDRAWN}),
        ({"mood": UNSTEERED, "topic": 0.4, "top": "sadness"}, {OFF_TOPIC}),
    ],
)
def test_what_goes_wrong_in_a_text(change, found):
    assert failing().of(replace(FINE, **change)) == found


def test_one_in_twenty_unsteered_answers_is_off_topic():
    texts = plain(np.linspace(0, 1, 41))
    failures = Failures(texts, {})
    assert failures.floor == pytest.approx(0.05)
    assert failures.counts(texts) == {kind: 2 if kind == OFF_TOPIC else 0 for kind in KINDS}
    assert failures.share(texts, OFF_TOPIC)[0] == pytest.approx(2 / 41)


def test_a_mood_without_a_place_is_refused():
    with pytest.raises(EmokernelError, match=r"'awe' has no place .* --emotions"):
        gallery.places_of(CALIBRATION, ("joy",), ("anger", "awe"))
    places = gallery.places_of(CALIBRATION, ("joy", "neutral"), ("boredom",))
    assert places == {"joy": RUSSELL["joy"], "boredom": RUSSELL["boredom"]}


def test_moods_are_unheard_in_unsteered_texts_too():
    texts = [replace(FINE, mood=UNSTEERED, top=top) for top in ("joy", "love", "fear", "neutral")]
    assert failing().unheard(texts, ["joy"]) == 0.5
    assert failing().unheard(texts, ["joy", "sadness"]) == 0.75


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/me/vectors.safetensors", "vectors.safetensors"),
        ("--vectors=/home/me/vectors.safetensors", "--vectors=vectors.safetensors"),
        ("owner/model", "owner/model"),
        ("--seed", "--seed"),
    ],
)
def test_a_command_says_nothing_of_where_files_lie(given, shown):
    assert gallery._without_paths([given]) == [shown]


def test_examples_are_of_different_moods_where_there_are_any():
    texts = [replace(FINE, cut=True), replace(FINE, mood="anger", top="anger", cut=True)]
    failures = failing(*texts)
    assert failures.example(texts, CUT) == texts[0]
    assert failures.example(texts, CUT, texts[:1]) == texts[1]
    assert failures.example(texts, CUT, texts) == texts[0]
    assert failures.example([*plain(), *texts], LOOPS) is None


def test_a_text_shows_as_it_is():
    text = "1 * 2 | <b> $x_y$ #3 [a](b) `c` \\ @d &amp;\n\n~e~ :f:\n"
    shown = escaped(text)
    assert shown.count("<br>") == 1
    assert shown.replace("<br>", "\n").replace("\\", "") == (
        text.strip().replace("\n\n", "\n").replace("\\", "")
    )
    for mark in "\\`*_[]<>|$~#&":
        assert f"\\{mark}" in shown.replace("<br>", "")


class Words:
    """Texts by how often each letter stands in them."""

    name = "letters"

    def __call__(self, texts):
        counts = np.array([[text.count(chr(n)) for n in range(32, 127)] for text in texts], float)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def made(tiny, monkeypatch, tmp_path):
    """``made(*options)``: (page, rows, batches that were written) of a small random model."""
    model, tokenizer = tiny(), word_tokenizer()
    model.lm_head.weight.data *= 30
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    path, batches, write = tmp_path / "vectors.safetensors", [], gallery.write
    word_vectors(model).with_calibration(CALIBRATION).save(path)

    def watched(model, tokenizer, steering, jobs, seeds, **options):
        batches.append(list(zip(jobs, seeds, strict=True)))
        return write(model, tokenizer, steering, jobs, seeds, **options)

    monkeypatch.setattr(gallery, "load", lambda name, dtype: (model, tokenizer))
    monkeypatch.setattr(gallery, "load_classifier", lambda name: WordJudge())
    monkeypatch.setattr(gallery.SentenceEncoder, "fetched", lambda name: Words())
    monkeypatch.setattr(gallery, "write", watched)
    monkeypatch.setattr(gallery, "is_presentable", lambda text: not text.lstrip().startswith("w1"))

    def make(*options: str):
        gallery.main([
            "words", "--vectors", str(path), "--tokens", "6", "--counted", "2", "--moods", "joy",
            "anger", "--output", str(tmp_path / "page.md"), "--results", str(tmp_path), *options,
        ])  # fmt: skip
        (recorded,) = tmp_path.glob("gallery-*.jsonl")
        return (tmp_path / "page.md").read_text("utf-8"), bench.read(recorded), batches

    return make


def test_one_command_makes_page_picture_and_rows(made, tmp_path):
    page, rows, batches = made()
    questions = gallery.QUESTIONS.read_text("utf-8").splitlines()
    assert [len(batch) for batch in batches] == [3] * 20 + [20 * 4 * 2]
    assert {seed for batch in batches[:20] for _, seed in batch} == {0}
    assert {seed for _, seed in batches[20]} == {1, 2}
    assert all(len({job.query for job, _ in batch}) == 1 for batch in batches[:20])
    assert page.count("| **joy**<br>") == page.count("| **unsteered**<br>") == len(questions)
    assert re.search("<sub>seed 0, draw [2-9]</sub>", page)
    assert "says so (3 of 60)" in page
    assert "under the seeds 1 to 2." in page
    assert re.search(r"held against the same moods, \d+\s% are not heard", page)
    assert "| w1" not in page, "what the word list blocks is drawn again"
    assert "surprise, so they are not here" in page
    assert str(tmp_path) not in page
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert [row["mood"] for row in rows] == [UNSTEERED, "joy", "anger", "sadness"]
    for row in rows:
        cell = f"({row['counts'][CUT]})"
        (line,) = [each for each in page.splitlines() if each.startswith(f"| {row['mood']} |")]
        assert line.split(" | ")[1 + KINDS.index(CUT)].endswith(cell)
        assert row["texts"] == 40
        assert 20 < row["counts"][CUT] <= 40, "a random model rarely ends"
    assert Path(page.split("![")[1].split("](")[1].split(")")[0]) == Path("page.png")


def test_what_has_no_dose_cannot_be_shown(made, capsys):
    with pytest.raises(SystemExit):
        made("--moods", "surprise")
    assert "no dose of surprise: choose of anger, joy, sadness" in capsys.readouterr().err
