"""The endpoints of OpenAI's API, answered by transformers' handlers."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter
from jinja2 import TemplateError
from starlette.responses import Response

from emokernel.errors import EmokernelError
from emokernel.requests import Request
from emokernel.serve.endings import chat_ended, response_ended
from emokernel.serve.engine import Wish, wish
from emokernel.serve.front.errors import BodyError
from emokernel.serve.front.generating import Generating
from emokernel.serve.schemas.answers import answers
from emokernel.serve.schemas.chat import ChatBody
from emokernel.serve.schemas.completions import CompletionBody
from emokernel.serve.schemas.handled import Body, check_model, to_handler
from emokernel.serve.schemas.responses import ResponseBody
from emokernel.serve.service import Service

_CHAT, _COMPLETIONS, _RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
# What ids begin with. transformers gives those of responses theirs.
_PREFIXES = {_CHAT: "chatcmpl-", _COMPLETIONS: "cmpl-", _RESPONSES: ""}
_LIMITS = {"max_tokens", "max_completion_tokens", "max_output_tokens"}


def openai_routes(service: Service, chat: Any, completion: Any, response: Any) -> APIRouter:
    """Routes that answer by the three handlers of transformers' server."""
    router = APIRouter()

    @router.post(_CHAT, responses=answers(_CHAT), summary="Go on with a chat")
    async def chat_completions(body: ChatBody) -> Response:
        return _generating(service, chat, body, _CHAT)

    @router.post(_COMPLETIONS, responses=answers(_COMPLETIONS), summary="Go on with a text")
    async def completions(body: CompletionBody) -> Response:
        return _generating(service, completion, body, _COMPLETIONS)

    @router.post(_RESPONSES, responses=answers(_RESPONSES), summary="Answer an input")
    async def responses(body: ResponseBody) -> Response:
        return _generating(service, response, body, _RESPONSES)

    return router


def _generating(service: Service, handler: Any, body: Body, endpoint: str) -> Generating:
    check_model(body, service.name)
    said = to_handler(body, service.limits, pictures=service.sees)
    ask = body.asked()
    service.check(ask)
    steered = ask is not None and ask.emotion is not None
    own = _wish(service, body, said, ask, steered)
    request_id = _PREFIXES[endpoint] + uuid.uuid4().hex
    told = request_id if endpoint != _RESPONSES else f"resp_{request_id}"  # as clients see it

    async def answer() -> Response:
        service.running.add(told)
        token = wish.set(own)
        try:
            made = await handler.handle_request(said, request_id)
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            if own.begun or isinstance(error, EmokernelError):
                raise
            raise BodyError(f"the model's chat template does not take that: {error}") from error
        finally:
            wish.reset(token)
        return response_ended(made, own) if endpoint == _RESPONSES else chat_ended(made, own)

    def leave() -> None:
        own.cancel()
        service.running.discard(told)

    return Generating(service, answer, endpoint=endpoint, steered=steered, leave=leave)


def _wish(
    service: Service, body: Body, said: dict[str, Any], ask: Request | None, steered: bool
) -> Wish:
    """How to generate; what it says of that is taken out of ``said``."""
    metrics, limits = service.metrics, _LIMITS & body.model_fields_set
    return Wish(
        ask=ask,
        temperature=said.pop("temperature", None),
        top_p=said.pop("top_p", None),
        seed=said.pop("seed", None),
        stop=tuple(said.pop("stop", ())),
        limited=any(getattr(body, name) is not None for name in limits),
        timing=metrics.begun(steered),
        read=lambda tokens: metrics.prompt_tokens(tokens, steered),
    )
