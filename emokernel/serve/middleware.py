"""Takes the emotion out of the bodies of requests; plain ASGI, so that streams stay streams."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.requests import Request
from emokernel.serve.fields import take_request
from emokernel.serve.front.bodies import Message, Receive, again, parsed, read
from emokernel.serve.front.refusals import refusal
from emokernel.steering import Steering

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
# The field without which the server would fail.
_NEEDED = {"/v1/chat/completions": "messages", "/v1/responses": "input"}

# What the HTTP request of this context asks for; None if it says nothing of emotion.
asked_for: ContextVar[Request | None] = ContextVar("asked_for", default=None)

Send = Callable[[Message], Awaitable[None]]


class EmotionFields:
    """Passes the emotion of a request on in `asked_for`; answers 400 for one that cannot be.

    ``model``: (what clients may call the model, what the server calls it), where these differ.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        steering: Callable[[], Steering],
        model: tuple[str, str],
    ) -> None:
        self._app, self._steering, self._model = app, steering, model

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; 413 for a body that is too large, whatever its path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = request = None
        try:
            content = await read(scope, receive)
            if content is None:
                return
            if scope["method"] == "POST" and scope["path"] in PATHS:
                body = parsed(content)
                request = None if body is None else take_request(body)
            if request is not None:
                self._steering().check(request)
            if body is not None:
                _check_asks(body, _NEEDED.get(scope["path"]))
        except EmokernelError as error:
            await refusal(error)(scope, receive, send)
            return
        if body is None:
            await self._app(scope, again(content, receive), send)
            return
        if body.get("model") == self._model[0]:
            body["model"] = self._model[1]
        content = json.dumps(body).encode()
        headers = [each for each in scope["headers"] if each[0] != b"content-length"]
        headers.append((b"content-length", str(len(content)).encode()))
        token = asked_for.set(request)
        try:
            await self._app({**scope, "headers": headers}, again(content, receive), send)
        finally:
            asked_for.reset(token)


def _check_asks(body: dict[str, Any], field: str | None) -> None:
    """EmokernelError for a body without the ``field``."""
    if field is not None and field not in body:
        given = next((name for name in ("prompt", *_NEEDED.values()) if name in body), None)
        raise EmokernelError(
            f"the body has no {field!r}: give it" + (f" in place of {given!r}" if given else "")
        )
