"""The same over a real connection, by uvicorn: what it says of a client that leaves is its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from serve.front.test_generating import Counts

from emokernel.serve.front.admission import Admission
from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.generating import Generating
from emokernel.serve.front.guard import front
from emokernel.serve.front.handlers import REFUSALS, install
from emokernel.serve.front.limits import Limits
from emokernel.serve.schemas.answers import answers
from emokernel.serve.schemas.chat import ChatBody

openai = pytest.importorskip("openai", reason="pip install 'emokernel[serve]'")
uvicorn = pytest.importorskip("uvicorn", reason="pip install 'emokernel[serve]'")

KEY = "key-of-this-test"
PATH = "/v1/chat/completions"
SAYS = {"messages": [{"role": "user", "content": "Hello"}]}


class Server:
    """Streams for ever, or answers after ``takes`` seconds."""

    def __init__(self):
        self.metrics, self.ended, self.takes = Counts(), 0, 0.0
        self.admission = None
        app = FastAPI(responses=REFUSALS)
        install(app)

        @app.post(PATH, responses=answers(PATH))
        async def chat(body: ChatBody) -> Generating:
            self.admission = self.admission or Admission(1, 1)
            service = SimpleNamespace(
                metrics=self.metrics, admission=self.admission, limits=Limits()
            )
            answer = self.stream if body.stream else self.whole
            return Generating(service, answer, endpoint="chat", steered=body.asked() is not None)

        self.app = front(app, Settings(keys=(KEY,)))

    async def stream(self):
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def whole(self):
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.ended += 1
        message = {"role": "assistant", "content": "Hi"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return JSONResponse({
            "id": "x", "created": 1, "model": "m", "object": "chat.completion", "choices": choices,
        })  # fmt: skip

    async def _pieces(self):
        delta = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
        chunk = {"id": "x", "created": 1, "model": "m", "object": "chat.completion.chunk"}
        try:
            while True:
                yield f"data: {json.dumps(chunk | {'choices': [delta]})}\n\n"
                await asyncio.sleep(0.005)
        finally:
            self.ended += 1

    @property
    def free(self):
        return (self.admission.running, self.admission.waiting) == (0, 0)


@contextmanager
def running(app):
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def until(condition, within_s=5.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def served():
    server = Server()
    with running(server.app) as address, httpx.Client(
        base_url=address, headers={"x-api-key": KEY}, timeout=5
    ) as client:  # fmt: skip
        yield server, client


def test_a_client_that_hangs_up_within_a_stream_frees_its_place_at_once(served):
    server, client = served
    for count in range(1, 4):
        with client.stream("POST", PATH, json=SAYS | {"stream": True}) as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            lines = answer.iter_lines()  # which closes the answer when it goes
            assert next(lines)
            assert server.admission.running == 1
        left = time.monotonic()
        until(lambda: server.free)
        assert time.monotonic() - left < 5
        assert (server.ended, server.metrics.hang_ups) == (count, count)


def test_a_client_that_hangs_up_before_the_answer_frees_its_place_at_once(served):
    server, client = served
    server.takes = 60
    with pytest.raises(httpx.ReadTimeout):
        client.post(PATH, json=SAYS, timeout=0.2)
    until(lambda: server.free)
    assert (server.ended, server.metrics.hang_ups) == (1, 1)


def test_what_is_waited_for_is_answered_on_a_connection_that_stays(served):
    server, client = served
    for _ in range(3):
        answer = client.post(PATH, json=SAYS | {"emotion": "joy"})
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (
            200,
            "Hi",
        )
    wrong = client.post(PATH, content=b"{", headers={"content-type": "application/json"})
    large = client.post(PATH, json={"x": "y" * 5_000_000})
    assert (wrong.status_code, large.status_code) == (400, 413)
    assert client.post(PATH, json=SAYS).status_code == 200
    assert server.metrics.hang_ups == 0
    assert server.metrics.requests[0] == ("chat", 200, True)


def test_the_client_of_openai_understands_answers_and_refusals(served):
    server, client = served
    url = f"{client.base_url}/v1"
    own = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
    asked = {"model": "m", "messages": SAYS["messages"]}
    said = own.chat.completions.create(**asked, extra_body={"emotion": "joy"})
    assert said.choices[0].message.content == "Hi"
    with own.chat.completions.create(**asked, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content == "Hi"
    until(lambda: server.free)
    with pytest.raises(openai.BadRequestError, match="temperature must be at most 2, got 3"):
        own.chat.completions.create(**asked, temperature=3)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=url, api_key="x").chat.completions.create(**asked)
    with pytest.raises(openai.NotFoundError):
        own.embeddings.create(model="m", input="x")
    server.admission.begin_draining()
    with pytest.raises(openai.InternalServerError) as raised:
        own.chat.completions.create(**asked)
    assert (raised.value.status_code, raised.value.code) == (503, "shutting_down")


def test_who_sends_too_much_reads_why(served):
    """Not that the connection was reset, which a client sees that sends on."""
    server, client = served
    length = 6 * 2**20
    head = [
        f"POST {PATH} HTTP/1.1", "Host: localhost", f"x-api-key: {KEY}",
        "Content-Type: application/json", f"Content-Length: {length}", "", "",
    ]  # fmt: skip
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", client.base_url.port), 10) as sending:
            sending.sendall("\r\n".join(head).encode() + b"x" * length)
            assert sending.recv(64).startswith(b"HTTP/1.1 413 ")
    assert server.admission is None
