"""What the middleware tells of a request is told of that one alone."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from serving.asgi import ask

from emokernel import Request
from emokernel.serving.middleware import EmotionFields, asked_for

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
