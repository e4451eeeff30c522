"""transformers' server gives each request its own emotion, with and without continuous batching."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from serve.asgi import ask

from emokernel import Affect, EmotionVectors, Request, patch
from emokernel.cli import main
from emokernel.commands import serve
from emokernel.commands.serve import served
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'emokernel[serve]'")
pytest.importorskip("openai", reason="pip install 'emokernel[serve]'")

PATH = "/v1/completions"
BATCHING = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "64"]
FIELDS = {"model": "embedded", "prompt": "They told us that", "max_tokens": 9, "temperature": 0.0}
EMOTIONS = [
    {},
    {"emotion": "joy", "strength": 1.5},
    {"emotion": "anger", "strength": 1.5, "law": "add"},
    {"emotion": {"sadness": 1.05, "remorse": 0.75}, "positions": "generated"},
    {"emotion": {"valence": -0.5, "arousal": 0.8}, "strength": 1.5},
    {"emotion": None},
]


@pytest.fixture(scope="module", params=["plain", "batching"])
def server(request):
    """A server of the embedded model, whose application is asked without a network."""
    options = BATCHING if request.param == "batching" else []
    made = served(None, 256, ["embedded", "--device", "cpu", *options])
    yield made
    made._model_manager.shutdown()


@pytest.fixture
def app(server):
    return server.server.config.app


@pytest.fixture(scope="module")
def wanted():
    """What `generate` gives for each of `EMOTIONS`."""
    model, tokenizer = load_model()
    steering = patch(model, load_vectors())
    requests = [
        None, Request("joy", 1.5), Request("anger", 1.5, law="add"),
        Request({"sadness": 1.05, "remorse": 0.75}, positions="generated"),
        Request(Affect(-0.5, 0.8), 1.5), None,
    ]  # fmt: skip
    ids = tokenizer(FIELDS["prompt"], return_tensors="pt")
    texts = []
    for request in requests:
        with steering.requests([request]):
            output = model.generate(**ids, do_sample=False, max_new_tokens=FIELDS["max_tokens"])
        new = output[0, ids["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    assert len(set(texts)) == 5
    return texts


def together(app, bodies, path=PATH):
    async def all_of_them():
        return await asyncio.gather(*(ask(app, path, body) for body in bodies))

    return asyncio.run(all_of_them())


def test_requests_at_the_same_time_with_different_emotions(app, server, wanted):
    answers = together(app, [FIELDS | emotion for emotion in EMOTIONS])
    assert [status for status, _ in answers] == [200] * len(EMOTIONS)
    assert [answer["choices"][0]["text"] for _, answer in answers] == wanted
    assert server.steering().requested.slots.held == 0


def test_who_says_nothing_of_emotion_is_not_steered_by_the_blocks_of_others(app, server, wanted):
    """What generates is started within one of them, and outlives it."""
    assert asyncio.run(ask(app, "/reset"))[0] == 200
    steering = server.steering()
    for emotion in ("anger", "joy"):
        with steering.requests([emotion]):
            answers = together(app, [FIELDS, FIELDS | EMOTIONS[1]])
            assert [answer["choices"][0]["text"] for _, answer in answers] == wanted[:2]
    ((_, answer),) = together(app, [FIELDS])
    assert answer["choices"][0]["text"] == wanted[0]


def test_streams_are_steered_too(app, wanted):
    answers = together(app, [FIELDS | emotion | {"stream": True} for emotion in EMOTIONS])
    for (status, text), whole in zip(answers, wanted, strict=True):
        assert status == 200
        chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emotion": "joyy"}, "unknown emotion 'joyy'. Did you mean 'joy'?"),
        ({"emotion": {"joy": "much"}}, "must be a finite number"),
        ({"emotion": ["joy"]}, "a list of emotions is"),
        ({"emotion": 3}, "an emotion is a name"),
        ({"emotion": "joy", "strength": "1"}, "strength must be a finite number"),
        ({"emotion": "joy", "strength": 10**400}, "strength must be a finite number"),
        ({"emotion": "joy", "strength": True}, "strength must be a finite number"),
        ({"emotion": {"joy": True}}, "must be a finite number"),
        ({"emotion": {"joy": -(10**400)}}, "must be a finite number"),
        ({"emotion": {"valence": 10**400, "arousal": 0}}, "a point needs the numbers"),
        ({"emotion": {"valence": 0.5, "arousal": True}}, "a point needs the numbers"),
        ({"emotion": "joy", "law": "sub"}, "unknown law 'sub'"),
        ({"emotion": "joy", "law": ["add"]}, "law must be a text"),
        ({"emotion": "joy", "positions": "first"}, "unknown positions 'first'"),
        ({"emotion": {"valence": 0.5}}, "a point needs the numbers valence and arousal"),
        ({"emotion": {"valence": 2, "arousal": 2}}, "not a point within the unit circle"),
        ({"strength": 1.0}, "strength without emotion"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/v1/responses"])
def test_what_cannot_be_steered_is_a_bad_request(app, path, fields, message):
    ((status, answer),) = together(app, [FIELDS | fields], path)
    assert status == 400
    assert message in answer["detail"]


def test_what_is_not_ours_is_left_to_transformers(app):
    answers = together(app, [FIELDS | {"emotion": "joy", "mood": 1}, b"{", b"[1]", FIELDS])
    assert [status for status, _ in answers] == [422, 422, 422, 200]
    assert "mood" in answers[0][1]["detail"]
    assert "emotion" not in answers[0][1]["detail"]


def test_another_model_is_refused_as_ever(app):
    ((status, answer),) = together(app, [FIELDS | {"model": "other", "emotion": "joy"}])
    assert status == 400
    assert "pinned" in answer["detail"]


def test_the_model_is_listed_by_the_name_that_requests_may_use(app):
    status, answer = asyncio.run(ask(app, "/v1/models", method="GET"))
    assert status == 200
    assert [each["id"] for each in answer["data"]] == [FIELDS["model"]]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/chat/completions", "the body has no 'messages': give it in place of 'prompt'"),
        ("/v1/responses", "the body has no 'input': give it in place of 'prompt'"),
    ],
)
def test_a_body_without_what_is_to_be_answered_is_a_bad_request(app, path, message):
    ((status, answer),) = together(app, [FIELDS], path)
    assert status == 400
    assert answer["detail"] == answer["error"]["message"] == message


def test_the_emotions_are_listed(app):
    status, answer = asyncio.run(ask(app, "/v1/emotions", method="GET"))
    assert status == 200
    assert [each["id"] for each in answer["data"]] == list(load_vectors().names)


def test_a_model_that_was_unloaded_is_patched_again(app, server, wanted):
    before = server.steering()
    assert asyncio.run(ask(app, "/reset"))[0] == 200
    ((_, answer),) = together(app, [FIELDS | EMOTIONS[1]])
    assert answer["choices"][0]["text"] == wanted[1]
    assert server.steering() is not before


def test_a_want_of_slots_is_told_as_such(app, server, monkeypatch):
    steering = server.steering()
    monkeypatch.setattr(steering.requested.slots, "_free", [])
    ((status, answer),) = together(app, [FIELDS | {"emotion": "fear"}])
    assert status == 503
    assert "no more slots" in answer["detail"]
    ((status, _),) = together(app, [FIELDS])
    assert status == 200


def test_chats_and_responses_carry_emotions(app, server, wanted):
    """The embedded model has no chat template; this one says nothing but the user's words."""
    _, _, tokenizer = server._chat_handler._resolve_model({})
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    asked = {"model": "embedded", "temperature": 0.0} | EMOTIONS[1]
    words = [{"role": "user", "content": FIELDS["prompt"]}]
    ((status, answer),) = together(
        app, [asked | {"messages": words, "max_tokens": 9}], "/v1/chat/completions"
    )
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == wanted[1]
    ((status, answer),) = together(
        app, [asked | {"input": words, "max_output_tokens": 9, "stream": False}], "/v1/responses"
    )
    assert status == 200
    assert answer["output"][0]["content"][0]["text"] == wanted[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the model to serve"),
        (["embedded", "--no-such-option"], "no-such-option"),
        (["embedded", "--port", "many"], "--port"),
        (["some/model"], "--vectors FILE"),
        (["embedded", "--device", "cpu", "--dtype", "int3"], "cannot serve embedded"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert main(["serve", *arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("emokernel: ")
    assert message in told


def test_missing_packages_are_told(capsys, monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.is_serve_available", lambda: False)
    assert main(["serve", "embedded"]) == 2
    assert "pip install 'emokernel[serve]'" in capsys.readouterr().err


def test_vectors_of_another_model_are_told(tmp_path, capsys):
    path = tmp_path / "v.safetensors"
    EmotionVectors.from_tensors({"joy": torch.ones(2, 4)}).save(path)
    assert main(["serve", "embedded", "--vectors", str(path), "--device", "cpu"]) == 2
    assert "these vectors belong to another model" in capsys.readouterr().err


@pytest.mark.parametrize("said", [{}, {"cb_num_blocks": 9}, {"cb_max_memory_percent": 0.5}])
def test_on_a_cpu_the_cache_leaves_most_of_the_memory_unless_told(said, capsys):
    total = pytest.importorskip("psutil").virtual_memory().total
    options = {"cb_num_blocks": None, "cb_max_memory_percent": None} | said
    options |= {"device": "cpu", "continuous_batching": True}
    given = dict(options)
    serve._bound_cache(options)
    if said:
        assert options == given
    else:
        assert 0 < options["cb_max_memory_percent"] * total <= 2**32
        assert "GiB" in capsys.readouterr().out
