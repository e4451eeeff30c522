"""One request to an ASGI application, without a network."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Bodies:
    """An application that keeps the bodies that reach it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(content)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


async def ask(app: Any, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    """(The status, the body: JSON, or text of a stream) of a response; ``body``: JSON or bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[dict[str, Any]] = []
    pieces = (content[:5], True), (content[5:], False)
    received = iter(
        {"type": "http.request", "body": piece, "more_body": more} for piece, more in pieces
    )

    async def receive() -> dict[str, Any]:
        for message in received:
            return message
        await asyncio.Event().wait()  # the client stays

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    headers.append((b"host", b"localhost"))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http",
        "query_string": b"", "headers": headers, "client": ("test", 1), "server": ("test", 2),
    }  # fmt: skip
    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent).decode()
    kind = dict(sent[0]["headers"]).get(b"content-type", b"")
    return sent[0]["status"], json.loads(text) if kind.startswith(b"application/json") else text
