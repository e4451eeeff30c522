"""The checks in front of an application: plain ASGI, so that streams and hang-ups get through."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from emokernel.errors import EmokernelError
from emokernel.serve.front.bodies import (
    Message,
    Receive,
    Send,
    again,
    read,
    said_length,
    strict,
    swallow,
)
from emokernel.serve.front.callers import Hosts, Keys, Pages
from emokernel.serve.front.errors import NotJSONError, SlowError, TooLargeError
from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.handlers import failure, id_of
from emokernel.serve.front.limits import Limits
from emokernel.serve.front.refusals import reason_of, refusal

logger = logging.getLogger(__name__)

App = Callable[[Message, Receive, Send], Awaitable[None]]

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON = re.compile(r'application/json(\s*;\s*charset\s*=\s*"?utf-?8"?)?\s*;?', re.IGNORECASE)
# Of a body that is too large, so many times what is taken, before its connection is closed.
_SWALLOWED = 16
_WITH_BODY = ("POST", "PUT", "PATCH", "QUERY")


class Counts(Protocol):
    """Counts what is answered and refused; `emokernel.serve.metrics.Metrics` does."""

    def request(self, endpoint: str, status: int, steered: bool) -> None:
        """One more answer."""

    def refused(self, reason: str) -> None:
        """One more, for one of a fixed few reasons."""


def front(app: Any, settings: Settings, metrics: Counts | None = None) -> App:
    """``app`` behind all checks; what they refuse never reaches it, and ``metrics`` counts it.

    From the outside: the id of the request and the headers of all answers, Host, web pages, CORS,
    key, body. A body is looked at where a route of ``app`` would read it.
    """
    served: App = _Bodies(app, settings.limits, metrics)
    served = _Checked(served, Keys(settings), metrics)
    if settings.origins:
        served = CORSMiddleware(
            served,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=(REQUEST_ID, "retry-after"),
        )
    served = _Checked(served, Pages(settings), metrics)
    return _Named(_Checked(served, Hosts(settings), metrics), metrics)


class _Checked:
    """Answers with a refusal what ``check`` raises."""

    def __init__(self, app: App, check: Callable[[Message], None], metrics: Counts | None) -> None:
        self._app, self._check, self._metrics = app, check, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except EmokernelError as error:
                await _refused(error, self._metrics)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Bodies:
    """Gives the application whole bodies, each of them an object of plain JSON."""

    def __init__(self, app: Any, limits: Limits, metrics: Counts | None) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                content = await self._content(scope, receive)
            except EmokernelError as error:
                if isinstance(error, TooLargeError):
                    most = _SWALLOWED * self._limits.body_bytes
                    await swallow(receive, most, self._limits.body_s / 2)
                await _refused(error, self._metrics)(scope, receive, send)
                return
            if content is None:
                return
            if content:
                receive = again(content, receive)
        await self._app(scope, receive, send)

    async def _content(self, scope: Message, receive: Receive) -> bytes | None:
        """The body if it is to be read, else nothing; None if the client left."""
        limit, seconds = self._limits.body_bytes, self._limits.body_s
        if said_length(scope) > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes: send less")
        if not self._is_read(scope):
            return b""
        kinds = Headers(scope=scope).getlist("content-type")
        if len(kinds) != 1 or not _JSON.fullmatch(kinds[0].strip()):
            raise NotJSONError("the body must be JSON: say Content-Type: application/json")
        try:
            content = await asyncio.wait_for(read(scope, receive, limit), seconds)
        except TimeoutError as error:
            raise SlowError(f"the body took longer than {seconds:g} s: send it at once") from error
        if content is not None:
            strict(content)
        return content

    def _is_read(self, scope: Message) -> bool:
        """Whether a route would read it; where there is none, that is what is to be answered."""
        routes = getattr(self._app, "routes", None)
        return scope["method"] in _WITH_BODY and (
            routes is None or any(route.matches(scope)[0] is Match.FULL for route in routes)
        )


class _Named:
    """Gives each request an id and each answer its headers, and answers where nobody else does.

    It counts the answers, but for those that were counted with more knowledge of them.
    """

    def __init__(self, app: App, metrics: Counts | None) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist(REQUEST_ID)
        own = given[0] if len(given) == 1 and _ID.fullmatch(given[0]) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = own
        status, begun = 0, time.perf_counter()

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _complete(MutableHeaders(scope=message), own)
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception as error:
            # The application has told of its own; of an answer that has begun the end is left out.
            answer = None if scope["state"].get("failed") else failure(error, id_of(scope))
            if answer is not None and not status:
                await answer(scope, receive, named)
        if status and self._metrics is not None and not scope["state"].get("counted"):
            self._metrics.request(scope["path"], status, False)
        # The route, since who reads a log must not learn by what a stream can be changed.
        path = getattr(scope.get("route"), "path", "")
        took = 1e3 * (time.perf_counter() - begun)
        logger.info("%s %s %s %d %.0f ms", own, scope["method"], path, status, took)


def _complete(headers: MutableHeaders, request_id: str) -> None:
    headers[REQUEST_ID] = request_id
    headers["x-content-type-options"] = "nosniff"
    headers["cross-origin-resource-policy"] = "same-origin"
    kind = headers.get("content-type", "")
    if kind.startswith(("application/json", "text/event-stream")):
        headers["cache-control"] = "no-store"
    if kind.startswith("text/event-stream"):
        headers["x-accel-buffering"] = "no"  # a proxy must not collect what is to be seen now


def _refused(error: EmokernelError, metrics: Counts | None) -> Any:
    if metrics is not None:
        metrics.refused(reason_of(error))
    return refusal(error)
