"""How the vectors of smollm2 are made: the texts, who listens, and which answers are kept."""

from __future__ import annotations

import importlib
import json
from collections import Counter

import gallery
import pytest
import torch
from smollm2 import own_answers, texts
from smollm2.listener import Listener
from smollm2.own_answers import Answer

from emokernel.demo.named import NAMED, QUESTION
from emokernel.demo.wordlist import is_presentable
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.prompting.prompts import shipped
from emokernel.lab.extract.labelled_texts import normalised

VECTORS = NAMED["smollm2"].load_vectors()


def test_every_query_has_an_answer_of_every_emotion_and_one_of_none():
    assert len(texts.queries()) == len(texts.calibration_queries()) == 40
    assert len(texts.more_queries()) == 50
    blocked = []
    for name in (*texts.emotions(), texts.NEUTRAL):
        answers = texts.written(name)
        assert list(answers) == texts.queries()
        assert len({normalised(answer) for answer in answers.values()}) == 40
        blocked += [answer for answer in answers.values() if not is_presentable(answer)]
    # The vectors that ship were learned with these; none is more than "my heart starts to race".
    assert len(blocked) == 16


def test_what_vectors_are_learned_with_is_asked_nowhere_else():
    """Neither by the evaluation nor by the gallery nor by the demo; nor what calibrates them."""
    own = [*texts.queries(), *texts.more_queries(), *texts.calibration_queries()]
    assert len({normalised(query) for query in own}) == len(own) == 130
    others = [*shipped("questions")["questions"], *shipped("questions")["queries"], QUESTION]
    others += gallery.QUESTIONS.read_text("utf-8").splitlines()
    assert not {normalised(each) for each in own} & {normalised(each) for each in others}


def test_the_vectors_that_ship_are_of_these_emotions():
    assert list(VECTORS.names) == texts.emotions()


@pytest.fixture(scope="module")
def listener():
    return Listener()


def test_the_listener_knows_every_emotion_and_its_probabilities_sum_to_1(listener):
    assert {*texts.emotions(), texts.NEUTRAL} <= set(listener.labels)
    assert len(set(listener.labels)) == len(listener.labels)
    written = {name: list(texts.written(name).values()) for name in texts.emotions()}
    read = listener.probabilities([answer for of in written.values() for answer in of])
    assert read.shape == (40 * len(written), len(listener.labels))
    assert torch.allclose(read.sum(1), torch.ones(len(read)), atol=1e-5)
    columns = [listener.labels.index(name) for name in written for _ in range(40)]
    assert read[range(len(read)), columns].mean() > 0.4, "it was fitted to them"
    assert listener.probabilities([]).shape == (0, len(listener.labels))


def test_the_listener_has_calibrated_what_ships(listener):
    record = VECTORS.calibration.record
    assert (record["judge"], record["judge_digest"]) == (listener.name, listener.digest())


def answer(number: int, emotion="joy", **changed) -> Answer:
    """Each of another query, with other first words, the first ones heard best."""
    words = " ".join(f"word{chr(97 + number % 26)}{chr(97 + place)}" for place in range(20))
    fine = {"query": f"query {number}", "text": words, "nats": 1.0, "tokens": 20}
    return Answer(emotion, **(fine | {"heard": 1 - number / 100} | changed))


def test_those_heard_best_are_kept_and_no_more_than_asked_for():
    some = [answer(number) for number in range(20)]
    kept = own_answers.best([*reversed(some), answer(0, "fear")], 5, free=1.5, cost=2.0)
    assert kept["joy"] == [(each.query, each.text) for each in some[:5]]
    assert len(kept["fear"]) == 1
    most = own_answers.best(some, 50, free=1.5, cost=2.0)["joy"]
    assert len(most) == 9, "of each emotion those that are heard least are left out"


def test_surprising_answers_are_worth_less_and_free_ones_are_not():
    some = [answer(number, heard=0.9) for number in range(4)]
    some[0].nats, some[1].nats, some[2].nats = 2.5, 1.5, 0.1
    kept = own_answers.best(some, 4, free=1.5, cost=2.0)["joy"]
    assert [query for query, _ in kept] == ["query 1", "query 2", "query 3", "query 0"]


@pytest.mark.parametrize(
    "unfit",
    [{"tokens": 13}, {"text": "once more and again " * 9}, {"text": "what the f*ck is that here"}],
)
def test_short_repeated_and_unpresentable_answers_are_not_kept(unfit):
    kept = own_answers.best([answer(0, **unfit), answer(1), answer(2)], 9, free=1.5, cost=2.0)
    assert kept["joy"][0] == (answer(1).query, answer(1).text)
    with pytest.raises(EmokernelError, match="no answer of joy can be kept"):
        own_answers.best([answer(0, **unfit)], 9, free=1.5, cost=2.0)


def test_one_query_and_one_opening_come_a_few_times_only():
    same_query = [answer(number, query="the same", heard=0.9) for number in range(20)]
    kept = own_answers.best(same_query, 20, free=1.5, cost=2.0)["joy"]
    assert Counter(query for query, _ in kept) == {"the same": 2}
    same_words = [
        answer(number, text=f"Oh how lovely, {answer(number).text}", heard=0.9)
        for number in range(20)
    ]
    assert len(own_answers.best(same_words, 20, free=1.5, cost=2.0)["joy"]) == 6


def test_answers_are_saved_and_loaded(tmp_path):
    some = [answer(0), answer(1, "fear", text="“Ça va?”\nYes.\u2028", heard=0.25)]
    own_answers.save(tmp_path / "answers.jsonl", some)
    assert own_answers.load(tmp_path / "answers.jsonl") == some
    first = (tmp_path / "answers.jsonl").read_text("utf-8").split("\n")[0]
    assert json.loads(first)["emotion"] == "joy"


def test_the_script_is_a_module_of_its_folder(monkeypatch, capsys):
    script = importlib.import_module("smollm2.vectors")
    monkeypatch.setattr("sys.argv", ["smollm2.vectors", "--help"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert "--work" in capsys.readouterr().out
    known = set(texts.emotions())
    assert all({*each.emotions, *each.again} <= known for each in script.ROUNDS)
    assert all(set(each.again) <= set(each.emotions or known) for each in script.ROUNDS)
