"""Emotion over HTTP, in vLLM's API server: fields of a body, and which emotions there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from vllm.entrypoints.launchers import app as launcher
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import VLLMValidationError

from emokernel.engines.vllm.asked import ASKING, FIELDS
from emokernel.engines.vllm.hooks import Load, around_function, around_method, settings_of
from emokernel.errors import EmokernelError, SteeringError
from emokernel.serve.bodies import Message, Receive, again, parsed, read
from emokernel.serve.fields import listed
from emokernel.serve.refusals import refusal

_STEERED = (ChatCompletionRequest, CompletionRequest, ResponsesRequest)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


def install(load: Load) -> None:
    """Put it in place; once, whatever the number of calls."""
    for request in _STEERED:
        around_method(request, "to_sampling_params", _take_fields)
        if hasattr(request, "to_beam_search_params"):
            around_method(request, "to_beam_search_params", _refuse_beams)
    around_function(launcher, "build_app", partial(_build_app, load))


def _said(request: Any) -> dict[str, Any]:
    """The fields of emotion at the top of a body, which vLLM keeps and reads nowhere."""
    return {name: value for name, value in (request.model_extra or {}).items() if name in FIELDS}


def _take_fields(original: Callable, request: Any, *args: Any, **kwargs: Any) -> Any:
    """vLLM's sampling parameters of a body, the fields at its top in their ``extra_args``."""
    params = original(request, *args, **kwargs)
    said, extra = _said(request), params.extra_args or {}
    if ASKING & said.keys():
        twice = sorted(said.keys() & extra.keys())
        if twice:
            raise VLLMValidationError(
                f"{', '.join(twice)} at the top of the body and in vllm_xargs: give one of them",
                parameter=twice[0],
            )
        params.extra_args = {**extra, **said}
    return params


def _refuse_beams(original: Callable, request: Any, *args: Any, **kwargs: Any) -> Any:
    asking = ASKING & (_said(request).keys() | (request.vllm_xargs or {}).keys())
    if asking:
        raise VLLMValidationError(
            "beam search cannot be steered in vLLM: leave use_beam_search or the emotion out",
            parameter=min(asking),
        )
    return original(request, *args, **kwargs)


def _build_app(load: Load, original: Callable, *args: Any, **kwargs: Any) -> Any:
    app = original(*args, **kwargs)
    from starlette.middleware import Middleware
    from starlette.requests import Request

    async def emotions(request: Request) -> Any:
        return await _emotions(load, request.app.state)

    app.add_api_route("/v1/emotions", emotions, methods=["GET"])
    # The innermost: behind authentication.
    app.user_middleware.append(Middleware(OtherBodies))
    return app


async def _emotions(load: Load, state: Any) -> Any:
    """The emotions that can be asked for; 503 with the reason unless all workers steer by them."""
    from starlette.responses import JSONResponse

    engine = state.engine_client
    try:
        said = settings_of(engine.vllm_config)
        if said is None:
            raise SteeringError("this server has no emotion vectors")
        vectors = load(said)
        told = await engine.engine_core.call_utility_async("emokernel_status")
        if told["of"] != vectors.of:
            raise SteeringError("the vectors of the workers are others: restart the server")
    except Exception as error:  # whatever a core that is no more raises
        message = f"emotions cannot be asked for: {error}"
        told = {"message": message, "type": "server_error", "param": None, "code": 503}
        return JSONResponse({"detail": message, "error": told}, status_code=503)
    return listed(vectors.names)


class OtherBodies:
    """Refuses an emotion at the top of a body whose path would ignore it."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Any) -> None:
        """Serve one connection."""
        kind = dict(scope.get("headers") or ()).get(b"content-type", b"")
        other = scope["type"] == "http" and scope["method"] == "POST" and b"json" in kind
        if other and scope["path"] not in PATHS:
            try:
                content = await read(scope, receive)
                if content is None:
                    return
                _check_asks_nothing(content, scope["path"])
            except EmokernelError as error:
                await refusal(error)(scope, receive, send)
                return
            receive = again(content, receive)
        await self._app(scope, receive, send)


def _check_asks_nothing(content: bytes, path: str) -> None:
    asking = sorted(ASKING & (parsed(content) or {}).keys())
    if asking:
        raise EmokernelError(
            f"{asking[0]} at the top of the body is not read by {path}: send it in vllm_xargs, or"
            f" use one of {', '.join(PATHS)}"
        )
