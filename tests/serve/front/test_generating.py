"""A client that leaves is not worked for, and nothing that happens keeps a place."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from serve.front.calls import Call, is_refusal
from starlette.background import BackgroundTask

from emokernel import EmokernelError
from emokernel.errors import NoFreeSlotError
from emokernel.serve.front.admission import Admission
from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.generating import HUNG_UP, Generating
from emokernel.serve.front.guard import front
from emokernel.serve.front.handlers import install
from emokernel.serve.front.limits import Limits

LIMITS = Limits()


class Counts:
    """Metrics that are lists."""

    def __init__(self):
        self.requests, self.refusals, self.hang_ups = [], [], 0

    def request(self, endpoint, status, steered):
        self.requests.append((endpoint, status, steered))

    def refused(self, reason):
        self.refusals.append(reason)

    def hang_up(self):
        self.hang_ups += 1


class Serving:
    """An application with one route, which answers with ``answer``."""

    def __init__(self, answer, *, running=1, waiting=10, rows=1, limits=LIMITS):
        self.metrics, self.admission = Counts(), Admission(running, waiting)
        service = SimpleNamespace(metrics=self.metrics, admission=self.admission, limits=limits)
        app = FastAPI()
        install(app)

        @app.post("/v1/completions")
        async def complete(body: dict):
            return Generating(service, answer, endpoint="completions", rows=rows, steered=True)

        self.app = front(app, Settings())

    def begin(self):
        call = Call("/v1/completions", {})
        return call, asyncio.ensure_future(call.serve(self.app))

    @property
    def free(self):
        return (self.admission.running, self.admission.waiting) == (0, 0)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_an_answer_passes_as_it_is():
    async def answer():
        return JSONResponse({"text": "x"}, headers={"x-more": "1"})

    async def run():
        serving = Serving(answer)
        got = await serving.begin()[1]
        assert (got.status, got.json, got.head["x-more"]) == (200, {"text": "x"}, "1")
        assert serving.metrics.requests == [("completions", 200, True)]
        assert serving.metrics.hang_ups == 0
        assert serving.free

    asyncio.run(run())


def test_what_is_done_after_a_whole_answer_is_no_hang_up():
    """Servers say that the client has left when the answer is whole, too."""
    done = []

    async def after():
        await asyncio.sleep(0.02)
        done.append(True)

    async def answer():
        return JSONResponse({}, background=BackgroundTask(after))

    async def run():
        serving = Serving(answer)
        await serving.begin()[1]
        assert (done, serving.metrics.hang_ups) == ([True], 0)
        assert serving.metrics.requests == [("completions", 200, True)]

    asyncio.run(run())


class Stream:
    """A stream that goes on for as long as somebody reads."""

    def __init__(self, fails=None):
        self.begun, self.closed, self._fails = 0, 0, fails

    async def answer(self):
        return StreamingResponse(self._pieces(), media_type="text/event-stream")

    async def _pieces(self):
        self.begun += 1
        try:
            for number in range(10_000):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.001)
                if self._fails and number == 3:
                    raise self._fails
        finally:
            self.closed += 1


def test_a_client_that_leaves_while_it_is_streamed_to_ends_the_stream():
    async def run():
        stream = Stream()
        serving = Serving(stream.answer)
        call, task = serving.begin()
        await until(lambda: call.answer.body.count(b"data") > 3)
        assert serving.admission.running == 1
        call.leave()
        await asyncio.wait_for(task, 10)
        assert (stream.closed, serving.free, call.answer.ended) == (1, True, False)
        assert serving.metrics.hang_ups == 1
        assert serving.metrics.requests == [("completions", HUNG_UP, True)]

    asyncio.run(run())


def test_a_client_that_does_not_read_ends_the_stream_when_it_leaves():
    """What it is made by is then not waiting for a token, but for the network."""

    async def run():
        stream = Stream()
        serving = Serving(stream.answer)
        call = Call("/v1/completions", {})
        stuck = asyncio.Event()

        async def send(message):
            if b"data: 3" in message.get("body", b""):
                stuck.set()
                await asyncio.Event().wait()

        call._send = send
        task = asyncio.ensure_future(call.serve(serving.app))
        await stuck.wait()
        call.leave()
        await asyncio.wait_for(task, 10)
        assert (stream.closed, serving.free) == (1, True)

    asyncio.run(run())


def test_a_client_that_leaves_before_the_answer_is_not_waited_for():
    cancelled = []

    async def answer():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def run():
        serving = Serving(answer)
        call, task = serving.begin()
        await until(lambda: serving.admission.running)
        call.leave()
        await asyncio.wait_for(task, 10)
        assert (cancelled, serving.free, call.answer.status) == ([True], True, 0)

    asyncio.run(run())


def test_a_client_that_leaves_the_queue_is_forgotten():
    asked = []

    async def answer():
        asked.append(True)
        await asyncio.Event().wait()

    async def run():
        serving = Serving(answer)
        first, one = serving.begin()
        await until(lambda: asked)
        second, two = serving.begin()
        await until(lambda: serving.admission.waiting)
        second.leave()
        await asyncio.wait_for(two, 10)
        assert (serving.admission.running, serving.admission.waiting) == (1, 0)
        first.leave()
        await one
        assert (asked, serving.free, serving.metrics.hang_ups) == ([True], True, 2)

    asyncio.run(run())


def test_the_end_of_the_server_takes_the_work_with_it():
    async def run():
        stream = Stream()
        serving = Serving(stream.answer)
        call, task = serving.begin()
        await until(lambda: call.answer.body)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (stream.closed, serving.free) == (1, True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (EmokernelError("unknown emotion"), 400, "body"),
        (HTTPException(422, "no such input"), 400, None),
        (NoFreeSlotError("all slots are taken"), 503, "slots"),
        (RuntimeError("secret"), 500, None),
    ],
)
def test_what_goes_wrong_before_the_answer_is_told_in_one_shape(error, status, reason, caplog):
    async def answer():
        raise error

    serving = None

    async def run():
        nonlocal serving
        serving = Serving(answer)
        return await serving.begin()[1]

    with caplog.at_level(logging.ERROR):
        got = asyncio.run(run())
    assert got.status == status
    assert is_refusal(got)
    assert b"secret" not in got.body
    assert serving.free
    assert serving.metrics.requests == [("completions", status, True)]
    assert serving.metrics.refusals == ([reason] if reason else [])
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == (status == 500)
    if logged:
        assert got.head["x-request-id"] in got.json["detail"]
        assert got.head["x-request-id"] in logged[0].getMessage()


@pytest.mark.parametrize("error", [RuntimeError("secret"), EmokernelError("no more slots")])
def test_what_goes_wrong_within_a_stream_is_its_last_event(error):
    stream = Stream(fails=error)
    serving = None

    async def run():
        nonlocal serving
        serving = Serving(stream.answer)
        return await serving.begin()[1]

    got = asyncio.run(run())
    last = got.body.decode().split("\n\n")[-2]
    assert got.ended
    assert last.startswith('data: {"detail": ')
    assert ("no more slots" in last) == isinstance(error, EmokernelError)
    assert "secret" not in last
    assert (stream.closed, serving.free) == (1, True)


def test_a_whole_answer_that_breaks_off_is_not_ended():
    class Breaks(JSONResponse):
        async def __call__(self, scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError

    async def answer():
        return Breaks({})

    async def run():
        serving = Serving(answer)
        got = await serving.begin()[1]
        assert (got.status, got.ended, serving.free) == (200, False, True)

    asyncio.run(run())


def test_too_many_are_told_to_come_back_and_draining_ends():
    stream = Stream()

    async def run():
        serving = Serving(stream.answer, waiting=1)
        first, one = serving.begin()
        await until(lambda: first.answer.body)
        two = serving.begin()[1]
        await until(lambda: serving.admission.waiting)
        refused = await serving.begin()[1]
        assert (refused.status, is_refusal(refused)) == (429, True)
        assert int(refused.head["retry-after"]) >= 1
        serving.admission.begin_draining()
        sent_away = await two
        late = await serving.begin()[1]
        assert (sent_away.status, late.status) == (503, 503)
        assert "retry-after" in late.head
        before = first.answer.body
        await until(lambda: len(first.answer.body) > len(before))
        first.leave()
        await one
        assert serving.free
        assert serving.metrics.refusals == ["busy", "draining", "draining"]

    asyncio.run(run())


def test_rows_are_places():
    stream = Stream()

    async def run():
        serving = Serving(stream.answer, running=4, rows=3)
        call, task = serving.begin()
        await until(lambda: call.answer.body)
        assert serving.admission.running == 3
        call.leave()
        await task
        assert serving.free

    asyncio.run(run())


def test_more_rows_than_places_are_400():
    async def run():
        return await Serving(None, running=2, rows=3).begin()[1]

    got = asyncio.run(run())
    assert (got.status, is_refusal(got)) == (400, True)


def test_who_reads_nothing_keeps_no_place():
    async def run():
        stream = Stream()
        serving = Serving(stream.answer, limits=Limits(stalled_s=0.05))
        call = Call("/v1/completions", {})
        send, unread = call._send, asyncio.Event()

        async def stalls(message):
            await send(message)
            if message["type"] == "http.response.body":
                await unread.wait()

        call._send = stalls
        async with asyncio.timeout(20):
            await call.serve(serving.app)
        assert serving.metrics.requests == [("completions", HUNG_UP, True)]
        assert serving.metrics.hang_ups == 1
        assert (stream.closed, serving.free, call.answer.ended) == (1, True, False)

    asyncio.run(run())
