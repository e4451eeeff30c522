"""What a FastAPI application answers where a route raises, in the one shape of `refusals`."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from emokernel.errors import EmokernelError
from emokernel.serve.front.errors import BodyError
from emokernel.serve.front.invalid import invalid
from emokernel.serve.front.refusals import refusal, told

logger = logging.getLogger(__name__)

_MISSING = {
    404: "there is no such path here: GET /openapi.json lists those that there are",
    405: "this path does not take this method: GET /openapi.json lists those that it takes",
}


class RefusalError(BaseModel):
    """Why a request was not served, where clients of OpenAI's API look for it."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(BaseModel):
    """The body of every answer that is none of success."""

    detail: str
    error: RefusalError


# For FastAPI(responses=...): every route may answer so. It leaves out FastAPI's own 422.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "The request cannot be served, and why"},
    "503": {"model": Refusal, "description": "Not now, and why"},
}


def install(app: FastAPI) -> None:
    """Make ``app`` answer whatever its routes raise in the one shape; an unexpected error is 500.

    What went wrong then is in the log alone, under the id that the answer names.
    """
    for kind in (RequestValidationError, HTTPException, EmokernelError, Exception):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    request_id = id_of(request.scope)
    response = answered(error, request_id)
    request.scope["state"]["failed"] = response.status_code == 500
    return response


def answered(error: Exception, request_id: str) -> Response:
    """The response to what was raised for the request of this id; logs what nobody expected."""
    if isinstance(error, RequestValidationError):
        error = invalid(error.errors())
    if isinstance(error, EmokernelError):
        return refusal(error)
    if isinstance(error, HTTPException):
        if error.status_code == 422:  # what transformers says of a body
            return refusal(BodyError(str(error.detail)))
        message = _MISSING.get(error.status_code, str(error.detail))
        return told(error.status_code, message, headers=dict(error.headers or {}))
    return failure(error, request_id)


def failure(error: BaseException, request_id: str) -> Response:
    """500, which says under what id the log has the error, and nothing of the error."""
    logger.error("request %s failed", request_id, exc_info=error)
    return told(500, failed(request_id), code="server_failed")


def failed(request_id: str) -> str:
    """The sentence of `failure`."""
    return f"the server failed; the log has it under {request_id}"


def id_of(scope: Any) -> str:
    """The id that the guard has given to the request; a new one where there is no guard."""
    return scope.setdefault("state", {}).setdefault("request_id", str(uuid.uuid4()))
