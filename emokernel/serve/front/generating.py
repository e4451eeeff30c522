"""The answer of a route that generates: in its turn, and for no longer than somebody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from emokernel.errors import EmokernelError
from emokernel.serve.front.bodies import Message, Receive, Send
from emokernel.serve.front.handlers import answered, failed, id_of
from emokernel.serve.front.refusals import reason_of, shape

if TYPE_CHECKING:
    from emokernel.serve.service import Service

# The status under which a request is counted whose client did not wait; nothing sends it.
HUNG_UP = 499
_STREAM = b"text/event-stream"


class Generating(Response):
    """Gives what ``answer`` gives, when there is room for ``rows`` more.

    The client may leave at any time, in the queue too: then the work is cancelled at once, and the
    places are free again. They are whatever happens. Who reads nothing for a while has left.
    """

    def __init__(
        self,
        service: Service,
        answer: Callable[[], Awaitable[Response]],
        *,
        endpoint: str,
        rows: int = 1,
        steered: bool,
        leave: Callable[[], object] = lambda: None,
    ) -> None:
        """``leave`` is called when the request is over, however it ended."""
        super().__init__()
        self._service, self._answer, self._rows = service, answer, rows
        self._endpoint, self._steered, self._leave = endpoint, steered, leave

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the request."""
        metrics = self._service.metrics
        sending = _Sending(send, self._service.limits.stalled_s)
        scope.setdefault("state", {})["counted"] = True
        left = asyncio.Event()
        work = asyncio.create_task(self._serve(scope, left, sending))
        listening = asyncio.create_task(_leave(receive))
        try:
            await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
            if sending.ended:  # servers say that a client has left when the answer is whole, too
                await asyncio.wait({work})
            if work.done():
                work.result()
            if not work.done() or sending.lost:
                metrics.hang_up()
            status = sending.status if work.done() and not sending.lost else HUNG_UP
            metrics.request(self._endpoint, status, self._steered)
        finally:
            left.set()
            work.cancel()
            listening.cancel()
            await asyncio.wait({work, listening})
            self._leave()

    async def _serve(self, scope: Message, left: asyncio.Event, sending: _Sending) -> None:
        async def receive() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        try:
            async with self._service.admission.place(self._rows):
                response = await self._answer()
                try:
                    await response(scope, receive, sending)
                finally:
                    await _close(response)
        except ClientDisconnect:
            sending.lost = True
        except Exception as error:
            if isinstance(error, EmokernelError):
                self._service.metrics.refused(reason_of(error))
            response = answered(error, id_of(scope))
            if not sending.status:
                await response(scope, receive, sending)
            elif not sending.ended:
                await sending.break_off(error, id_of(scope))


class _Sending:
    """``send``, which knows how far the answer has got, and does not wait for who does not read."""

    def __init__(self, send: Send, stalled_s: float) -> None:
        self._send, self._stalled_s = send, stalled_s
        self.status = 0
        self.ended = self.lost = self._streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            self._streams = kind.startswith(_STREAM)
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._send(message)
        except TimeoutError as error:
            raise ClientDisconnect from error

    async def break_off(self, error: Exception, request_id: str) -> None:
        """End an answer that has begun: a stream of events with one that says why.

        Of any other the end is left out, by which the client sees that it is not whole.
        """
        if not self._streams:
            return
        expected = isinstance(error, EmokernelError)
        content = shape(500, str(error) if expected else failed(request_id), code="server_failed")
        event = f"data: {json.dumps(content)}\n\n".encode()
        await self({"type": "http.response.body", "body": event, "more_body": False})


async def _leave(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(response: Any) -> None:
    """End what a stream is made by: cancelled while it sends, it would only wait for the next."""
    close = getattr(getattr(response, "body_iterator", None), "aclose", None)
    if close is not None:
        await close()
