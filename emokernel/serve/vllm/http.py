"""Emotion over HTTP, in vLLM's API server: fields of a body, and which emotions there are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from vllm.entrypoints.launchers import app as launcher
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.speech_to_text.transcription.protocol import TranscriptionRequest
from vllm.entrypoints.speech_to_text.translation.protocol import TranslationRequest
from vllm.exceptions import VLLMValidationError

from emokernel.engines.vllm import settings
from emokernel.engines.vllm.asked import ASKING, FIELDS
from emokernel.engines.vllm.hooks import (
    Load,
    around_function,
    around_method,
    check_request,
    settings_of,
)
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import SteeringError
from emokernel.serve.fields import listed
from emokernel.serve.vllm.other_paths import OtherPaths

_STEERED = (
    ChatCompletionRequest,
    CompletionRequest,
    ResponsesRequest,
    TranscriptionRequest,
    TranslationRequest,
)
# Seconds for the answer of a core: it may be in the middle of a step, or be no more.
_PATIENCE = 30.0


def install(load: Load) -> None:
    """Put it in place; once, whatever the number of calls."""
    front = _Front(load)
    for request in _STEERED:
        around_method(request, "to_sampling_params", front.take_fields)
        if hasattr(request, "to_beam_search_params"):
            around_method(request, "to_beam_search_params", _refuse_beams)
    around_function(launcher, "build_app", front.build_app)


def _said(request: Any) -> dict[str, Any]:
    """The fields of emotion at the top of a body, which vLLM keeps and reads nowhere."""
    return {name: value for name, value in (request.model_extra or {}).items() if name in FIELDS}


def _refuse_beams(original: Callable, request: Any, *args: Any, **kwargs: Any) -> Any:
    asking = ASKING & (_said(request).keys() | (request.vllm_xargs or {}).keys())
    if asking:
        raise VLLMValidationError(
            "beam search cannot be steered in vLLM: leave use_beam_search or the emotion out",
            parameter=min(asking),
        )
    return original(request, *args, **kwargs)


class _Front:
    """What stands around the functions of one API server."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._said: Settings | None = None
        self._renders = False  # for an engine elsewhere, which knows its vectors

    def build_app(self, original: Callable, args: Any, tasks: Any = None, *more: Any) -> Any:
        """vLLM's application, with a path more and with `OtherPaths`."""
        app = original(args, tasks, *more)
        self._renders = "render" in (tasks or ())
        self._said = settings.read(getattr(args, "additional_config", None), os.environ)

        async def emotions(request: Request) -> Any:
            return await _emotions(self._load, request.app.state)

        app.add_api_route("/v1/emotions", emotions, methods=["GET"])
        # The innermost: behind authentication. vLLM has made the stack already: it is made again.
        app.user_middleware.append(Middleware(OtherPaths))
        app.middleware_stack = None
        return app

    def take_fields(self, original: Callable, request: Any, *args: Any, **kwargs: Any) -> Any:
        """vLLM's sampling parameters of a body, the fields at its top in their ``extra_args``.

        What cannot be is refused here already: a stream has begun when the engine would refuse it.
        """
        params = original(request, *args, **kwargs)
        said, extra = _said(request), params.extra_args or {}
        twice = sorted(said.keys() & extra.keys())
        if twice:
            raise VLLMValidationError(
                f"{', '.join(twice)} at the top of the body and in vllm_xargs: give one of them",
                parameter=twice[0],
            )
        if said:
            params.extra_args = {**extra, **said}
        if not self._renders:
            check_request(self._load, self._said, params)
        return params


async def _emotions(load: Load, state: Any) -> Any:
    """The emotions that can be asked for; 503 with the reason unless all workers steer by them."""
    try:
        engine = state.engine_client
        said = settings_of(engine.vllm_config)
        if said is None:
            raise SteeringError("this server has no emotion vectors")
        vectors = load(said)
        asked = engine.engine_core.call_utility_all_async("emokernel_status")
        cores = await asyncio.wait_for(asked, _PATIENCE)
        if any(core["of"] != vectors.of for core in cores):
            raise SteeringError("the vectors of the workers are others: restart the server")
    except Exception as error:  # whatever a core that is no more raises
        message = f"emotions cannot be asked for: {str(error) or type(error).__name__}"
        told = {"message": message, "type": "server_error", "param": None, "code": 503}
        return JSONResponse({"detail": message, "error": told}, status_code=503)
    return listed(vectors.names)
