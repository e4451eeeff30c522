"""The routes beside vLLM's own, on an application without vLLM: what ours tells, and no more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")

from fastapi import FastAPI
from serve.emotions.served import Served
from serve.front.calls import ask, is_refusal
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from word_model import NAMES, WordJudge

from emokernel import EmotionVectors, patch
from emokernel.affect import Coordinates
from emokernel.engines.vllm.settings import Settings, read
from emokernel.errors import FetchError
from emokernel.serve.known import reading
from emokernel.serve.page.routes import page_routes
from emokernel.serve.vllm.named import load
from emokernel.serve.vllm.routes import add_emotions, add_page, add_reading
from emokernel.vectors.calibration import Calibration

EMOTIONS, READ = "/v1/emotions", "/v1/emotions/read"
CALIBRATION = Calibration(
    "attention", [0.0, 0.5, 2.0], "preserve", "absolute", "wheel", "russell",
    {"preserve absolute": {"anger": 3.0, "joy": 0.25, "sadness": 1.5, "surprise": 2.0}},
    {}, {"judge": "/home/anna/judge"},
)  # fmt: skip


@pytest.fixture
def file(vectors, tmp_path):
    """Calibrated vectors, as a file."""
    path = tmp_path / "mine.safetensors"
    vectors().with_calibration(CALIBRATION).save(path)
    return str(path)


def asked(said, *, of=None, chat=True, cores=None):
    """The answer of a server that was started with these settings, or with none."""

    async def status(_name):
        if cores is not None:
            return cores
        return [{"of": of or load(read({"emokernel": said})).of}]

    async def chats(state):
        assert state is app.state
        return chat

    app = FastAPI()
    add_emotions(app, load, chats)
    app.state.engine_client = SimpleNamespace(
        vllm_config=SimpleNamespace(additional_config={"emokernel": said} if said else {}),
        engine_core=SimpleNamespace(call_utility_all_async=status),
    )
    app.state.openai_serving_models = SimpleNamespace(model_name=lambda: "served")
    return ask(app, EMOTIONS, method="GET")


@pytest.mark.parametrize(
    "options",
    [
        {}, {"calibrated": False}, {"site": "block"}, {"dose": "relative"},
        {"layers": [0, 2], "law": "add", "positions": "generated"},
        {"mapping": "axes", "calibrated": False}, {"preset": "emotion-vectors"},
    ],
)  # fmt: skip
def test_the_list_is_that_of_our_own_server(options, file, tiny):
    """But for what else a server does, and for its name."""
    told = asked({"vectors": file, **options})
    assert told.status == 200
    model = tiny()
    own = Served(model, None, patch(model, EmotionVectors.load(file), **options))
    expected = ask(own.app, EMOTIONS, method="GET").json
    abilities = {"chat": True, "sides": None, "judge": None, "max_tokens": None}
    assert told.json == expected | {"model": "served", "abilities": abilities}


def test_emotions_that_cannot_be_asked_for_say_why(file):
    emotions = asked({"vectors": file, "dose": "relative"}).json["data"]
    assert not any(each["steered"] for each in emotions)
    assert all("has not been calibrated" in each["why_not"] for each in emotions)


def test_what_a_server_was_told_is_in_the_list(file):
    told = asked({"vectors": file, "coordinates": "glasgow", "judge": "/srv/judge"}, chat=False)
    assert told.json["circumplex"]["coordinates"] == "glasgow"
    assert told.json["abilities"]["judge"] == "judge"
    assert told.json["abilities"]["chat"] is False
    assert "/home" not in told.body.decode()


@pytest.mark.parametrize(
    ("said", "given", "reason"),
    [
        (None, {}, "this server has no emotion vectors"),
        ({}, {"of": "others"}, "the vectors of the workers are others: restart the server"),
        ({}, {"cores": [{}]}, "of"),
    ],
)
def test_who_does_not_steer_is_not_ready_and_says_why(said, given, reason, file):
    answer = asked(None if said is None else {"vectors": file}, **given)
    assert answer.status == 503
    assert answer.json["detail"] == answer.json["error"]["message"]
    assert answer.json["detail"].startswith("emotions cannot be asked for: ")
    assert reason in answer.json["detail"]


def test_of_a_file_that_is_gone_no_path_is_told():
    answer = asked({"vectors": "/home/anna/gone.safetensors"}, of="x")
    assert answer.status == 503
    assert "gone.safetensors" in answer.json["detail"]
    assert "/home" not in answer.body.decode()


@pytest.fixture
def judged(monkeypatch, file):
    """``judged(judge)``: an application that reads by what is loaded, or raised; what was asked."""

    def make(judge):
        loaded = []

        def load_classifier(name, device):
            loaded.append((name, device))
            if isinstance(judge, Exception):
                raise judge
            return judge

        monkeypatch.setattr(reading, "load_classifier", load_classifier)
        app = FastAPI()
        add_reading(app, "mine", load(Settings(vectors=file, coordinates="glasgow")))
        return app, loaded

    return make


def test_texts_are_read_on_the_cpu_by_a_judge_that_nobody_loads_before(judged):
    app, loaded = judged(WordJudge())
    assert loaded == []
    answer = ask(app, READ, {"texts": [f"w{number}" for number in range(4)]})
    assert loaded == [("mine", "cpu")]
    assert answer.status == 200
    assert answer.json["coordinates"] == "glasgow"
    assert [each["label"] for each in answer.json["data"]] == list(NAMES)
    place, there = answer.json["data"][0]["place"], Coordinates.named("glasgow")[NAMES[0]]
    assert place["valence"] == pytest.approx(there.valence, abs=1e-5)


def test_a_judge_that_cannot_be_had_is_a_refusal(judged):
    app, _ = judged(FetchError("nothing at /home/anna/w"))
    answer = ask(app, READ, {"text": "x"})
    assert answer.status == 503
    assert is_refusal(answer)
    assert answer.json["detail"] == "the judge 'mine' cannot be had: nothing at w"
    assert int(answer.head["retry-after"]) > 0


def test_what_is_no_text_is_not_read(judged):
    app, loaded = judged(WordJudge())
    assert ask(app, READ, {"text": "x", "texts": ["x"]}).status == 422  # 400 by vLLM's own handler
    assert loaded == []


def test_the_page_is_there():
    app = FastAPI()
    add_page(app)
    for route in page_routes():
        assert ask(app, route.path, method="GET").status == 200


async def _other(_request):
    return PlainTextResponse("somebody else's")


@pytest.mark.parametrize(
    "theirs",
    [
        Route("/", _other), Route("/", _other, methods=["POST"]), Route("/{path:path}", _other),
        Mount("/", Route("/", _other)),
    ],
)  # fmt: skip
def test_what_is_there_already_stays_and_there_is_no_page(theirs):
    app = FastAPI(openapi_url=None)
    app.router.routes.append(theirs)
    add_page(app)
    assert app.router.routes == [theirs]
