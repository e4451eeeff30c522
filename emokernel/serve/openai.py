"""The endpoints of OpenAI's API, answered by transformers' handlers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from jinja2 import TemplateError
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response as Responded
from starlette.responses import Response

from emokernel.requests import Request
from emokernel.serve.engine import Wish, wish
from emokernel.serve.fields import take_request
from emokernel.serve.front.errors import BodyError, NotFoundError
from emokernel.serve.front.generating import Generating
from emokernel.serve.schemas import ChatBody, CompletionBody, ResponseBody, to_handler
from emokernel.serve.service import Service

_CHAT, _COMPLETIONS, _RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
# What ids begin with. transformers gives those of responses theirs.
_PREFIXES = {_CHAT: "chatcmpl-", _COMPLETIONS: "cmpl-", _RESPONSES: ""}
# Streams that clients read up to this line.
_DONE = "data: [DONE]\n\n"


def openai_routes(service: Service, chat: Any, completion: Any, response: Any) -> APIRouter:
    """Routes that answer by the three handlers of transformers' server."""
    router = APIRouter()

    @router.post(_CHAT, response_model=ChatCompletion, summary="Continue a chat")
    async def chat_completions(body: ChatBody) -> Response:
        return _generating(service, chat, body, _CHAT)

    @router.post(_COMPLETIONS, response_model=Completion, summary="Continue a text")
    async def completions(body: CompletionBody) -> Response:
        return _generating(service, completion, body, _COMPLETIONS)

    @router.post(_RESPONSES, response_model=Responded, summary="Respond to an input")
    async def responses(body: ResponseBody) -> Response:
        return _generating(service, response, body, _RESPONSES)

    return router


def check_model(service: Service, asked: str | None) -> None:
    """NotFoundError for a model that is not the one that is served."""
    if asked not in (None, service.name):
        raise NotFoundError(f"there is no model {asked!r} here: this server has {service.name!r}")


def _generating(service: Service, handler: Any, body: Any, endpoint: str) -> Generating:
    check_model(service, body.model)
    said = to_handler(body)
    ask = take_request(said)
    service.check(ask)
    own = _wish(service, ask, said)
    request_id = _PREFIXES[endpoint] + uuid.uuid4().hex

    async def answer() -> Response:
        service.running.add(request_id)
        token = wish.set(own)
        try:
            made = await handler.handle_request(said, request_id)
        except TemplateError as error:
            raise BodyError(f"the model's chat template does not take that: {error}") from error
        finally:
            wish.reset(token)
        iterator = getattr(made, "body_iterator", None)
        if iterator is not None and endpoint != _RESPONSES:
            made.body_iterator = _with_end(iterator)
        return made

    def leave() -> None:
        own.cancel()
        service.running.discard(request_id)

    steered = ask is not None and ask.emotion is not None
    return Generating(service, answer, endpoint=endpoint, steered=steered, leave=leave)


def _wish(service: Service, ask: Request | None, said: dict[str, Any]) -> Wish:
    """What generates is asked for; what it reads is taken out of ``said``."""
    steered, metrics = ask is not None and ask.emotion is not None, service.metrics
    stop = said.pop("stop", None) or ()
    limits = "max_tokens", "max_completion_tokens", "max_output_tokens"
    return Wish(
        ask=ask,
        temperature=said.pop("temperature", None),
        top_p=said.pop("top_p", None),
        seed=said.pop("seed", None),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        limited=any(said.get(name) is not None for name in limits),
        timing=metrics.begun(steered),
        read=lambda tokens: metrics.prompt_tokens(tokens, steered),
    )


async def _with_end(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The chunks of a stream, and the line that ends it."""
    async with aclosing(chunks):  # pyright: ignore[reportArgumentType]
        async for chunk in chunks:
            yield chunk
    yield _DONE
