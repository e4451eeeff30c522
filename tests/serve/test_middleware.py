"""What the middleware tells of a request is told of that one alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from serve.asgi import Bodies, ask

from emokernel import EmokernelError, Request, patch
from emokernel.demo.model import load_model
from emokernel.demo.vectors import load_vectors
from emokernel.serve.front import bodies
from emokernel.serve.middleware import EmotionFields, asked_for

PATH = "/v1/completions"


@pytest.mark.parametrize("fails", [False, True])
def test_an_emotion_is_forgotten_after_its_request(fails):
    """Also by what goes on in the same task: a server may serve a connection in one."""
    told = []

    async def app(scope, receive, send):
        told.append(asked_for.get())
        if fails:
            raise RuntimeError("the server fails")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = EmotionFields(app, lambda: SimpleNamespace(check=lambda request: None), ("a", "b"))

    async def one_after_the_other():
        for path in (PATH, "/v1/models"):
            with pytest.raises(RuntimeError, match="server fails") if fails else nullcontext():
                await ask(middleware, path, {"emotion": "joy", "strength": 0.5})

    asyncio.run(one_after_the_other())
    assert told == [Request("joy", 0.5), None]


class Served:
    """An application that reads its body and answers it, behind the middleware."""

    def __init__(self, check=lambda request: None):
        self._served, self.requests = Bodies(), []
        self.bodies = self._served.bodies
        steering = SimpleNamespace(check=check)
        self.app = EmotionFields(self._serve, lambda: steering, ("a", "b"))

    async def _serve(self, scope, receive, send):
        self.requests.append(asked_for.get())
        await self._served(scope, receive, send)

    def ask(self, content, path=PATH):
        return asyncio.run(ask(self.app, path, content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "more than 64 levels"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "more than 64 levels"),
        (b"[" * 10_000_000, "more than 64 levels"),
        (b'{"prompt": "\xff\xfe"}', "codec can't decode"),
        (b'{"temperature": NaN}', "NaN is no number"),
        (b'{"temperature": -Infinity}', "-Infinity is no number"),
        (b'{"temperature": 1e999}', "1e999 is too large"),
        (b'{"temperature": ' + b"9" * 10_000 + b"}", "integer string conversion"),
        (b'{"emotion": "joy", "emotion": "anger"}', "the key 'emotion' is given twice"),
        (b'{"emotion": {"joy": 1, "joy": 2}}', "the key 'joy' is given twice"),
        (b'{"emotion": "' + b"x" * 1_000_000 + b'"}', "a name has 200 characters at most"),
        (b'{"emotion": {"' + b"x" * 1_000_000 + b'": 1}}', "a name has 200 characters at most"),
        (b'{"emotion": "joy", "law": "' + b"x" * 1_000_000 + b'"}', "a name has 200 characters"),
    ],
    ids=lambda given: repr(given[:24]),
)
def test_a_body_that_cannot_be_served_is_400(content, told):
    served = Served()
    status, answer = served.ask(content)
    assert (status, served.bodies) == (400, [])
    assert told in answer["detail"]
    assert len(answer["detail"]) < 1500


def test_too_many_emotions_are_400():
    content = json.dumps({"emotion": {f"e{n}": 1 for n in range(1000)}}).encode()
    status, answer = Served().ask(content)
    assert status == 400
    assert "names 1000 emotions" in answer["detail"]


def test_a_refusal_repeats_no_more_than_a_little():
    def check(request):
        raise EmokernelError(f"what is {request.emotion}?")

    status, answer = Served(check).ask({"emotion": ["x" * 100_000 + "\ud800"]})
    assert status == 400
    assert len(answer["detail"]) < 1500
    assert Served(check).ask({"emotion": ["\ud800"]})[0] == 400


def test_what_is_no_object_is_left_to_the_server():
    served = Served()
    contents = [b"{", b"", b"[1]", b"1", b'"text"', b"null"]
    assert [served.ask(content)[0] for content in contents] == [200] * 6
    assert served.bodies == contents


@pytest.mark.parametrize("path", [PATH, "/v1/audio/transcriptions"])
@pytest.mark.parametrize("said", [True, False, "nonsense", "9" * 5000])
def test_a_body_that_is_too_large_is_413_and_not_kept(said, path, monkeypatch):
    monkeypatch.setattr(bodies, "MOST_BYTES", 1000)
    served, given, sent = Served(), [], []

    async def receive():
        given.append(100)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message):
        sent.append(message)

    length = {True: b"1001", False: None}.get(said) or (str(said).encode() if said else None)
    headers = [(b"content-length", length)] if length else []
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(served.app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert "larger than 1000 bytes" in sent[1]["body"].decode()
    assert sum(given) == (0 if said is True or str(said).isdigit() else 1100)
    assert served.bodies == []


def test_a_body_of_the_limit_is_served(monkeypatch):
    content = json.dumps({"prompt": "x" * 100}).encode()
    monkeypatch.setattr(bodies, "MOST_BYTES", len(content))
    assert Served().ask(content)[0] == 200


def test_a_client_that_leaves_within_its_body_is_not_served():
    served = Served()
    messages = iter(
        [
            {"type": "http.request", "body": b'{"emotion": null}', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive():
        return next(messages)

    async def send(message):
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
    asyncio.run(served.app(scope, receive, send))
    assert served.bodies == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["joy", "anger", "valence", "arousal"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["joy", "anger", "valence", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def steering():
    return patch(load_model()[0], load_vectors())


# The first text of a fresh checkout waits for hypothesis' tables of characters.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("emotion", "strength", "law", "dose", "positions"), JSON)
    )
)
def test_whatever_is_asked_for_is_served_or_400(steering, body):
    assert Served(steering.check).ask(body)[0] in (200, 400)


@pytest.mark.parametrize("path", ["/load_model", PATH])
def test_a_body_that_is_too_large_is_a_413_where_fastapi_reads_it(path, monkeypatch):
    """FastAPI answers 400 to whatever goes wrong while it reads the body of a route."""
    fastapi = pytest.importorskip("fastapi")
    monkeypatch.setattr(bodies, "MOST_BYTES", 100)
    app = fastapi.FastAPI()

    @app.post("/load_model")
    def load(body: dict):
        return body

    middleware = EmotionFields(app, lambda: SimpleNamespace(check=lambda _: None), ("a", "b"))
    status, content = asyncio.run(ask(middleware, path, {"text": "x" * 1000}))
    assert status == 413
    assert "larger than 100 bytes" in content["detail"]
