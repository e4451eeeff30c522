"""What the judge reads: its labels, their place, and what is said where there is no judge."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from serve.front.calls import Call, ask, is_refusal
from word_model import WordJudge

from emokernel.affect import Coordinates
from emokernel.errors import FetchError
from emokernel.lab.judges import load_classifier
from emokernel.serve.known import reading

PATH = "/v1/emotions/read"
TEXTS = ["I am so happy for you!", "This makes me furious.", "I miss him so much, I cried."]


class Judge:
    """Reads what it is told to, in one thread at a time."""

    name, multi_label = "told", False

    def __init__(self, labels, scores):
        self.labels, self.scores, self.threads = labels, scores, set()
        self._alone = threading.Lock()

    def probabilities(self, texts):
        self.threads.add(threading.current_thread().name)
        assert self._alone.acquire(blocking=False)
        self._alone.release()
        return torch.tensor([self.scores] * len(texts))


@pytest.fixture
def loaded(monkeypatch):
    """``loaded(judge)``: what is loaded from now on, or raised; the names that were asked for."""

    def make(judge):
        asked = []

        def load(name, device):
            asked.append(name)
            if isinstance(judge, Exception):
                raise judge
            return judge

        monkeypatch.setattr(reading, "load_classifier", load)
        return asked

    return make


def test_texts_are_read_by_the_judge_of_the_server(served):
    answer = ask(served.app, PATH, {"texts": TEXTS})
    assert answer.status == 200
    judge, table = load_classifier("embedded-evaluation"), Coordinates.named("russell")
    assert answer.json["model"] == "embedded-evaluation"
    assert answer.json["coordinates"] == "russell"
    for n, read in enumerate(answer.json["data"]):
        scores = judge.probabilities([TEXTS[n]])[0].tolist()
        assert read["index"] == n
        assert read["scores"] == pytest.approx(
            dict(zip(judge.labels, scores, strict=True)), abs=1e-5
        )
        assert read["label"] == judge.labels[scores.index(max(scores))]
        known = [(s, table[label]) for s, label in zip(scores, judge.labels, strict=True)
                 if label in table]  # fmt: skip
        assert read["place"]["valence"] == pytest.approx(
            sum(s * point.valence for s, point in known), abs=1e-5
        )
        assert read["place"]["arousal"] == pytest.approx(
            sum(s * point.arousal for s, point in known), abs=1e-5
        )
    happy, furious, sad = (read["place"] for read in answer.json["data"])
    assert happy["valence"] > furious["valence"] > sad["valence"]
    assert furious["arousal"] > sad["arousal"]


def test_one_text_is_read_like_one_of_several(served):
    (one,) = ask(served.app, PATH, {"text": TEXTS[1]}).json["data"]
    several = ask(served.app, PATH, {"texts": TEXTS}).json["data"]
    assert one == several[1] | {"index": 0}


def test_labels_without_a_place_have_none(served, loaded):
    loaded(Judge(("LABEL", "other"), [0.25, 0.75]))
    (read,) = ask(served.app, PATH, {"text": "x"}).json["data"]
    assert read == {
        "index": 0, "label": "other", "scores": {"LABEL": 0.25, "other": 0.75}, "place": None
    }  # fmt: skip


def test_it_is_loaded_once_when_it_is_first_asked(served, loaded):
    judge = Judge(("joy", "anger"), [0.5, 0.5])
    asked = loaded(judge)
    assert asked == []

    async def run():
        calls = [Call(PATH, {"text": text}) for text in TEXTS * 4]
        return await asyncio.gather(*(call.serve(served.app) for call in calls))

    assert {answer.status for answer in asyncio.run(run())} == {200}
    assert asked == ["embedded-evaluation"]
    assert len(judge.threads) == 1
    assert next(iter(judge.threads)).startswith("judge")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            FetchError("no index gives gt-all at /home/somebody/.cache/w: set PIP_INDEX_URL"),
            "no index gives",
        ),
        (FileNotFoundError("/home/somebody/judge.json"), "FileNotFoundError"),
    ],
)
def test_a_judge_that_cannot_be_had_is_told_and_looked_for_again(served, loaded, error, told):
    loaded(error)
    answer = ask(served.app, PATH, {"text": "x"})
    assert answer.status == 503
    assert is_refusal(answer)
    assert "the judge 'embedded-evaluation' cannot be had" in answer.json["detail"]
    assert told in answer.json["detail"]
    assert "/home" not in answer.json["detail"]
    assert int(answer.head["retry-after"]) > 0
    loaded(WordJudge())
    assert ask(served.app, PATH, {"text": "x"}).status == 200


def test_too_many_readings_at_a_time_are_refused(served, loaded, monkeypatch):
    monkeypatch.setattr(reading, "_WAITING", 2)
    go_on = threading.Event()
    judge = Judge(("joy", "anger"), [0.5, 0.5])
    read = judge.probabilities
    judge.probabilities = lambda texts: go_on.wait(5) and read(texts)
    loaded(judge)

    async def run():
        calls = [Call(PATH, {"text": "x"}) for _ in range(3)]
        tasks = [asyncio.ensure_future(call.serve(served.app)) for call in calls]
        async with asyncio.timeout(20):
            while not calls[2].answer.ended:
                await asyncio.sleep(0.001)
        go_on.set()
        answers = await asyncio.gather(*tasks)
        more = await Call(PATH, {"text": "x"}).serve(served.app)
        return [answer.status for answer in answers], more.status, answers[2]

    statuses, more, refused = asyncio.run(run())
    assert statuses == [200, 200, 429]
    assert refused.head["retry-after"] == "1"
    assert more == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give either text or texts"),
        ({"text": "x", "texts": ["x"]}, "give either text or texts"),
        ({"texts": []}, "texts needs at least 1"),
        ({"texts": ["x"] * 65}, "texts has at most 64"),
        ({"texts": ["x", ""]}, "texts[1] must be at least 1 characters long"),
        ({"text": "x" * 20_001}, "text must be at most 20000 characters long"),
        ({"texts": ["x", 1]}, "texts[1] must be a text, got 1"),
        ({"text": "x", "judge": "other/model"}, "'judge' is no field"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request(served, body, message):
    answer = ask(served.app, PATH, body)
    assert answer.status == 400
    assert message in answer.json["detail"]


def test_the_largest_body_is_read(served):
    answer = ask(served.app, PATH, {"texts": ["word " * 4000] * 64})
    assert answer.status == 200
    assert len(answer.json["data"]) == 64
