"""The responses that say why a request cannot be served; all have one shape."""

from __future__ import annotations

from typing import Any

from emokernel.errors import EmokernelError, NoFreeSlotError
from emokernel.serve.front.errors import RefusedError

# The most characters of a text from outside that a refusal repeats.
_TOLD = 1000
# What a client may do about a want of slots: they are free when somebody's text has ended.
_SLOT_S = 1


def refusal(error: EmokernelError) -> Any:
    """The response that says why a request cannot be served.

    The status is that of a `RefusedError`, 503 for a want of slots, else 400.
    """
    headers = dict(error.headers) if isinstance(error, RefusedError) else {}
    if isinstance(error, NoFreeSlotError):
        headers["retry-after"] = str(_SLOT_S)
    return told(
        status_of(error),
        str(error),
        param=getattr(error, "param", None),
        code=getattr(error, "code", None),
        headers=headers,
    )


def status_of(error: EmokernelError) -> int:
    """The HTTP status of `refusal`."""
    if isinstance(error, NoFreeSlotError):
        return 503
    return error.status if isinstance(error, RefusedError) else 400


def reason_of(error: EmokernelError) -> str:
    """The label, one of a fixed few, under which a refusal is counted."""
    if isinstance(error, NoFreeSlotError):
        return "slots"
    return error.reason if isinstance(error, RefusedError) else "body"


def told(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """The response of a status that is none of success: the message, in one sentence.

    "detail" is the message as the server of transformers gives it, "error" as clients of OpenAI's
    API look for it.
    """
    from starlette.responses import JSONResponse

    return JSONResponse(shape(status, message, param, code), status, headers or {})


def shape(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The JSON of `told`."""
    message = sendable(message, _TOLD)
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    param = None if param is None else sendable(param, 200)
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"detail": message, "error": error}


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def sendable(text: str, most: int) -> str:
    """At most so many characters, without lone surrogates, which JSON can hold, but not send."""
    if len(text) > most:
        text = f"{text[:most]}…"
    return text.encode("utf-8", "backslashreplace").decode()
