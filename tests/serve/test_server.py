"""OpenAI's endpoints give each request its own emotion, whatever generates for them."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

pytest.importorskip("fastapi", reason="pip install 'emokernel[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'emokernel[serve]'")
pytest.importorskip("openai", reason="pip install 'emokernel[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'emokernel[serve]'")

from serve.asgi import ask
from serve.made import BATCHING, PLAIN, make_server

from emokernel import Affect, EmotionVectors, Request, patch
from emokernel.cli import main
from emokernel.commands import serve
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.errors import EmokernelError
from emokernel.serve.server import listen

PATH, CHAT, RESPONSES = "/v1/completions", "/v1/chat/completions", "/v1/responses"
FIELDS = {"model": "embedded", "prompt": "They told us that", "max_tokens": 9, "temperature": 0.0}
EMOTIONS = [
    {},
    {"emotion": "joy", "strength": 1.5},
    {"emotion": "anger", "strength": 1.5, "law": "add"},
    {"emotion": {"sadness": 1.05, "remorse": 0.75}, "positions": "generated"},
    {"emotion": {"valence": -0.5, "arousal": 0.8}, "strength": 1.5},
    {"emotion": None},
]


@pytest.fixture(scope="module", params=["batching", "plain"])
def server(request):
    """A server of the embedded model, whose application is asked without a network."""
    made = make_server(*(BATCHING if request.param == "batching" else PLAIN))
    # The embedded model has no chat template; this one says nothing but the user's words.
    made.service.processor.chat_template = "{{ messages[0]['content'] }}"
    yield made
    made.close()


@pytest.fixture
def app(server):
    return server.front


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


def one(app, body, path=PATH):
    return together(app, [body], path)[0]


def events_of(text):
    """The events of a stream, the line that ends it among them."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_requests_at_the_same_time_with_different_emotions(app, server, wanted):
    answers = together(app, [FIELDS | emotion for emotion in EMOTIONS])
    assert [status for status, _ in answers] == [200] * len(EMOTIONS)
    assert [answer["choices"][0]["text"] for _, answer in answers] == wanted
    assert server.steering().requested.slots.held == 0
    assert server.service.admission.running == 0


def test_who_says_nothing_of_emotion_is_not_steered_by_the_blocks_of_others(app, server, wanted):
    steering = server.steering()
    for emotion in ("anger", "joy"):
        with steering.requests([emotion]):
            answers = together(app, [FIELDS, FIELDS | EMOTIONS[1]])
            assert [answer["choices"][0]["text"] for _, answer in answers] == wanted[:2]


def test_streams_are_steered_too_and_end_as_clients_expect(app, wanted):
    answers = together(app, [FIELDS | emotion | {"stream": True} for emotion in EMOTIONS])
    for (status, text), whole in zip(answers, wanted, strict=True):
        assert status == 200
        *chunks, end = events_of(text)
        assert end == "[DONE]"
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
        assert {chunk["model"] for chunk in chunks} == {"embedded"}


def test_chats_and_responses_carry_emotions(app, wanted):
    asked = {"temperature": 0.0} | EMOTIONS[1]
    words = [{"role": "user", "content": FIELDS["prompt"]}]
    chat, response = asked | {"messages": words, "max_tokens": 9}, asked | {"input": words}
    status, answer = one(app, chat, CHAT)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == wanted[1]
    *chunks, end = events_of(one(app, chat | {"stream": True}, CHAT)[1])
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == wanted[1]
    assert end == "[DONE]"
    status, answer = one(app, response | {"max_output_tokens": 9}, RESPONSES)
    assert status == 200
    assert answer["output"][0]["content"][0]["text"] == wanted[1]
    events = events_of(one(app, response | {"max_output_tokens": 9, "stream": True}, RESPONSES)[1])
    deltas = [each["delta"] for each in events if each["type"] == "response.output_text.delta"]
    assert "".join(deltas) == wanted[1]


def test_each_request_is_sampled_as_it_says_whoever_came_first(app, wanted):
    hot = FIELDS | {"temperature": 2.0, "seed": 5}
    one(app, hot)
    assert one(app, FIELDS)[1]["choices"][0]["text"] == wanted[0]
    texts = [answer["choices"][0]["text"] for _, answer in together(app, [hot, FIELDS, hot])]
    assert texts[0] == texts[2] != texts[1] == wanted[0]


def test_an_answer_ends_before_its_stop_streamed_or_not(app, wanted):
    stop = wanted[0].split()[2]
    body = FIELDS | {"stop": ["never said", stop]}
    status, answer = one(app, body)
    assert status == 200
    assert answer["choices"][0] | {"text": ""} == {"index": 0, "finish_reason": "stop", "text": ""}
    assert answer["choices"][0]["text"] == wanted[0][: wanted[0].index(stop)]
    *chunks, _ = events_of(one(app, body | {"stream": True})[1])
    streamed = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert streamed == answer["choices"][0]["text"]


def test_a_response_that_is_cut_off_is_incomplete(app):
    asked = {"input": FIELDS["prompt"], "temperature": 0.0}
    for most, status in ((1, "incomplete"), (60, "completed")):
        body = asked | {"max_output_tokens": most}
        answer = one(app, body, RESPONSES)[1]
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        assert (answer["status"], answer.get("incomplete_details")) == (status, reason)
        last = events_of(one(app, body | {"stream": True}, RESPONSES)[1])[-1]
        assert last["type"] == f"response.{status}"
        assert last["response"]["status"] == status
        assert last["response"].get("incomplete_details") == reason


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_read(app):
    status, answer = one(app, FIELDS | {"prompt": "🌧" * 300_000})
    assert (status, "characters, 4096 at most" in answer["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emotion": "joyy"}, "unknown emotion 'joyy'. Did you mean 'joy'?"),
        ({"emotion": {"joy": "much"}}, "must be a finite number"),
        ({"emotion": ["joy"]}, "a list of emotions is"),
        ({"emotion": 3}, "an emotion is a name"),
        ({"emotion": "joy", "strength": "1"}, "strength must be a number"),
        ({"emotion": "joy", "strength": True}, "strength must be a number"),
        ({"emotion": {"joy": True}}, "must be a finite number"),
        ({"emotion": {"joy": -(10**400)}}, "must be a finite number"),
        ({"emotion": {"valence": 10**400, "arousal": 0}}, "a point needs the numbers"),
        ({"emotion": {"valence": 0.5, "arousal": True}}, "a point needs the numbers"),
        ({"emotion": "joy", "law": "sub"}, "law can only be"),
        ({"emotion": "joy", "positions": "first"}, "positions can only be"),
        ({"emotion": {"valence": 0.5}}, "a point needs the numbers valence and arousal"),
        ({"emotion": {"valence": 2, "arousal": 2}}, "not a point within the unit circle"),
        ({"strength": 1.0}, "strength without emotion"),
        ({"emotion": {"joy": 1e30}, "law": "add"}, "so large that the model would overflow"),
    ],
)
def test_what_cannot_be_steered_is_a_bad_request(app, fields, message):
    bodies = {
        PATH: FIELDS,
        CHAT: {"messages": [{"role": "user", "content": "so"}]},
        RESPONSES: {"input": "so"},
    }
    for path, body in bodies.items():
        status, answer = one(app, body | fields, path)
        assert status == 400
        assert message in answer["detail"]
        assert answer["error"]["message"] == answer["detail"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PATH, FIELDS | {"mood": 1}, 400, "mood"),
        (PATH, FIELDS | {"model": "other"}, 404, "there is no model 'other' here"),
        (PATH, FIELDS | {"max_tokens": 253}, 400, "do not fit the 256 tokens"),
        (PATH, FIELDS | {"prompt": "so " * 300}, 400, "do not fit the 256 tokens"),
        (CHAT, FIELDS, 400, "messages"),
        (RESPONSES, FIELDS, 400, "input"),
        ("/reset", {}, 404, "no such path"),
        ("/load_model", {"model": "embedded"}, 404, "no such path"),
    ],
)
def test_what_is_not_served_is_told_in_one_sentence(app, path, body, status, message):
    found, answer = one(app, body, path)
    assert found == status
    assert message in answer["error"]["message"]


def test_a_template_that_refuses_is_a_bad_request(app, server, monkeypatch):
    refuses = "{{ raise_exception('roles must alternate') }}"
    monkeypatch.setattr(server.service.processor, "chat_template", refuses)
    status, answer = one(app, {"messages": [{"role": "user", "content": "so"}]}, CHAT)
    assert status == 400
    assert "roles must alternate" in answer["detail"]


def test_the_server_tells_of_itself(app):
    def get(path):
        return asyncio.run(ask(app, path, method="GET"))

    status, answer = get("/v1/models")
    assert status == 200
    assert [each["id"] for each in answer["data"]] == ["embedded"]
    assert get("/v1/models/embedded") == (200, answer["data"][0])
    assert get("/v1/models/other/one")[0] == 404
    assert get("/health") == get("/ready") == (200, {"status": "ok"})
    status, text = get("/metrics")
    assert status == 200
    assert "emokernel_slots 256.0" in text
    assert "emokernel_slots_in_use 0.0" in text
    status, text = get("/")
    assert status == 200
    assert "page/scripts/main.js" in text
    assert RESPONSES in get("/openapi.json")[1]["paths"]


def test_what_generates_and_has_failed_is_told(app, server, monkeypatch):
    monkeypatch.setattr(server.service.manager, "is_alive", lambda: False)
    for path in ("/health", "/ready"):
        assert asyncio.run(ask(app, path, method="GET"))[0] == 503


def test_a_server_that_is_to_stop_takes_nothing_new():
    made = make_server(*PLAIN)
    made.service.admission.begin_draining()
    assert one(made.front, FIELDS)[0] == 503
    assert asyncio.run(ask(made.front, "/ready", method="GET"))[0] == 503
    assert asyncio.run(ask(made.front, "/health", method="GET"))[0] == 200
    made.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embedded", "--no-such-option"], "no-such-option"),
        (["embedded", "--port", "many"], "--port"),
        (["some/model"], "--vectors FILE"),
        (["embedded", "--device", "cpu", "--dtype", "int3"], "cannot serve embedded"),
        (["embedded", "--running", "8", "--slots", "7"], "give --slots 8 or more"),
        (["embedded", "--host", "0.0.0.0"], "--api-key"),
        (["embedded", "--cors", "example"], "is no origin"),
        (["embedded", "--port", "1", "--host", "203.0.113.1", "--no-api-key"], "cannot listen"),
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
@pytest.mark.parametrize("context", [256, 10**9])
def test_on_a_cpu_the_cache_leaves_most_of_the_memory_unless_told(said, context):
    total = pytest.importorskip("psutil").virtual_memory().total
    model, _ = load_model()
    model.config.max_position_embeddings = context
    options = {"cb_num_blocks": None, "cb_max_memory_percent": None} | said
    options |= {"device": "cpu", "continuous_batching": None}
    given = dict(options)
    serve._bound_cache(options, model.config, 32)
    if said:
        assert options == given
    elif context == 256:  # what 32 texts can fill
        assert options["cb_num_blocks"] == 32
        assert options["cb_max_memory_percent"] is None
    else:
        assert 0 < options["cb_max_memory_percent"] * total <= 2**32


@pytest.mark.parametrize("sampled", [{"temperature": 1e-40}, {"temperature": 1, "top_p": 1e-300}])
def test_the_smallest_numbers_that_are_let_in_take_the_likeliest_token(app, sampled, wanted):
    status, answer = one(app, FIELDS | sampled)
    assert status == 200
    assert answer["choices"][0]["text"] == wanted[0]


def ended(app, body, path=PATH):
    """(The text, why it ended, its tokens) of a body, which a stream gives as well."""
    status, answer = one(app, body, path)
    *_, last, _ = chunks = events_of(one(app, body | {"stream": True}, path)[1])
    assert status == 200
    choice = answer["choices"][0]
    text = "".join(chunk["choices"][0].get("text") or "" for chunk in chunks[:-1])
    assert (text, last["choices"][0]["finish_reason"]) == (choice["text"], choice["finish_reason"])
    assert last["usage"] == answer["usage"]
    return choice["text"], choice["finish_reason"], answer["usage"]["completion_tokens"]


def test_what_ends_with_its_last_token_was_not_cut_off(app):
    whole, reason, tokens = ended(app, FIELDS | {"max_tokens": 200})
    assert reason == "stop"
    assert ended(app, FIELDS | {"max_tokens": tokens}) == (whole, "stop", tokens)
    assert ended(app, FIELDS | {"max_tokens": tokens - 1})[1:] == ("length", tokens - 1)
    stop = whole.split()[1]
    cut, reason, tokens = ended(app, FIELDS | {"max_tokens": 200, "stop": stop})
    assert (cut, reason) == (whole[: whole.index(stop)], "stop")
    assert ended(app, FIELDS | {"max_tokens": tokens, "stop": stop}) == (cut, "stop", tokens)


def test_a_stream_says_what_the_whole_answer_does_where_half_a_character_ends_it(app, server):
    tokenizer = server.service.loaded()[1]
    halves = [token for token in range(len(tokenizer)) if "\ufffd" in tokenizer.decode([token])]
    head = server.service.model.lm_head
    half = torch.zeros(head.out_features).index_fill_(0, torch.tensor(halves[-1:]), 1e4)
    hook = head.register_forward_hook(lambda module, inputs, output: output + half)
    try:
        assert ended(app, FIELDS | {"max_tokens": 3})[1:] == ("length", 3)
    finally:
        hook.remove()


def test_an_id_that_a_client_sees_is_known_while_it_runs(app, server):
    seen = set()

    class Running(set):
        def add(self, each):
            seen.add(each)
            super().add(each)

    running = server.service.running
    object.__setattr__(server.service, "running", Running())
    try:
        words = [{"role": "user", "content": FIELDS["prompt"]}]
        answers = [
            one(app, FIELDS)[1],
            one(app, {"messages": words, "max_tokens": 2}, CHAT)[1],
            one(app, {"input": words, "max_output_tokens": 2}, RESPONSES)[1],
        ]
        assert {answer["id"] for answer in answers} == seen
        assert not server.service.running
    finally:
        object.__setattr__(server.service, "running", running)


def test_no_port_is_another_one():
    with pytest.raises(EmokernelError, match="no port 99999"):
        listen("127.0.0.1", 99999)


def test_where_batching_cannot_be_set_up_one_follows_the_other(monkeypatch, capsys):
    def fails(*_, **__):
        raise ValueError("not this attention")

    monkeypatch.setattr("transformers.LlamaForCausalLM.init_continuous_batching", fails)
    made = make_server()
    try:
        assert "one request after the other: not this attention" in capsys.readouterr().out
    finally:
        made.close()
