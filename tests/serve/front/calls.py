"""A request to an ASGI application, with any headers, and a client that may leave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

JSON_HEADERS = (("host", "127.0.0.1:8000"), ("content-type", "application/json"))


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.headers}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Call:
    """One request; `leave` is what a client does that hangs up."""

    def __init__(self, path="/", body=None, *, method="POST", headers=JSON_HEADERS) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = Answer()
        self._arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._left = asyncio.Event()
        if body is not None:
            self._arriving.put_nowait({"type": "http.request", "body": content, "more_body": False})
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
            "root_path": "", "scheme": "http", "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "client": ("test", 1), "server": ("test", 2),
        }  # fmt: skip

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._arriving.empty():
            return self._arriving.get_nowait()
        # As uvicorn does, also when the answer is whole.
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self.answer.status
            self.answer.status, self.answer.headers = message["status"], list(message["headers"])
        else:
            assert self.answer.status
            self.answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                self.answer.ended = True
                self._left.set()

    async def serve(self, app: Any) -> Answer:
        await app(self.scope, self._receive, self._send)
        return self.answer


def ask(app: Any, *args: Any, **kwargs: Any) -> Answer:
    """The answer to one request, which is waited for."""
    return asyncio.run(Call(*args, **kwargs).serve(app))


def is_refusal(answer: Answer) -> bool:
    """Whether it has the one shape of all refusals."""
    content = answer.json
    error = content["error"]
    return (
        set(content) == {"detail", "error"}
        and set(error) == {"message", "type", "param", "code"}
        and content["detail"] == error["message"]
        and bool(error["message"].strip())
        and "\n" not in error["message"]
    )
