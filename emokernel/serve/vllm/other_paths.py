"""The paths of vLLM that generate and do not read an emotion at the top of a body, or at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from emokernel.engines.vllm.asked import ASKING
from emokernel.errors import EmokernelError
from emokernel.serve.front.bodies import Message, Receive, again, read
from emokernel.serve.front.refusals import refusal

_XARGS = "vllm_xargs"
# Where each of them reads it; None: nowhere.
PATHS = {
    "/v1/messages": _XARGS,
    "/v1/messages/render": _XARGS,
    "/v1/chat/completions/batch": _XARGS,
    "/inference/v1/generate": "extra_args of sampling_params",
    "/cohere/v2/chat": None,
    "/cohere/v2/chat/render": None,
    "/generative_scoring": None,
    "/v1/systemone": None,
}


class OtherPaths:
    """Refuses an emotion that vLLM would ignore; plain ASGI."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Any) -> None:
        """Serve one connection."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and scope["method"] == "POST" and path in PATHS:
            content = await read(scope, receive, sys.maxsize)  # limits are vLLM's to set
            if content is None:
                return
            ignored = _ignored(content, PATHS[path])
            if ignored:
                where = PATHS[path] or "a request to /v1/chat/completions"
                error = EmokernelError(f"{path} does not read {ignored} there: send it in {where}")
                await refusal(error)(scope, receive, send)
                return
            receive = again(content, receive)
        await self._app(scope, receive, send)


def _ignored(content: bytes, where: str | None) -> str | None:
    """The first field of a body that asks for an emotion where nobody reads it."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):  # of which the server says what is wrong
        return None
    if not isinstance(body, dict):
        return None
    xargs = body.get(_XARGS)
    said = {*body, *(xargs if where != _XARGS and isinstance(xargs, dict) else ())}
    return min(ASKING & said, default=None)
