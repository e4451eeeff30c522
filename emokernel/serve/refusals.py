"""The responses that say why a request cannot be served."""

from __future__ import annotations

from typing import Any

from emokernel.errors import EmokernelError, NoFreeSlotError
from emokernel.serve.bodies import TooLargeError

# The most characters of a text from outside that a refusal repeats.
_TOLD = 1000


def refusal(error: EmokernelError) -> Any:
    """The response that says why a request cannot be served.

    503 if it could be later, 413 for too large a body, else 400. "detail" is the message as the
    server of transformers gives it, "error" as clients of OpenAI's API look for it.
    """
    from starlette.responses import JSONResponse

    message = str(error)
    if len(message) > _TOLD:
        message = f"{message[:_TOLD]}…"
    # A lone surrogate, which JSON can hold, cannot be sent.
    message = message.encode("utf-8", "backslashreplace").decode()
    statuses = {NoFreeSlotError: 503, TooLargeError: 413}
    status = next((number for kind, number in statuses.items() if isinstance(error, kind)), 400)
    kind = "invalid_request_error" if status < 500 else "server_error"
    told = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"detail": message, "error": told}, status_code=status)
