"""Emotion over HTTP, in vLLM's API server: fields of a body, and routes beside its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from starlette.middleware import Middleware
from vllm.entrypoints.launchers import app as launcher
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.speech_to_text.transcription.protocol import TranscriptionRequest
from vllm.entrypoints.speech_to_text.translation.protocol import TranslationRequest
from vllm.exceptions import VLLMValidationError
from vllm.renderers.chat_utils import ChatTemplateResolutionError
from vllm.renderers.params import ChatParams

from emokernel.engines.vllm import settings
from emokernel.engines.vllm.asked import ASKING, FIELDS
from emokernel.engines.vllm.hooks import (
    around_function,
    around_method,
    check_request,
)
from emokernel.engines.vllm.settings import Settings
from emokernel.serve.vllm.named import LoadNamed
from emokernel.serve.vllm.other_paths import OtherPaths
from emokernel.serve.vllm.routes import add_emotions, add_page, add_reading

logger = logging.getLogger("vllm.emokernel")

_STEERED = (
    ChatCompletionRequest,
    CompletionRequest,
    ResponsesRequest,
    TranscriptionRequest,
    TranslationRequest,
)


def install(load: LoadNamed) -> None:
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

    def __init__(self, load: LoadNamed) -> None:
        self._load = load
        self._said: Settings | None = None
        self._renders = False  # for an engine elsewhere, which knows its vectors

    def build_app(self, original: Callable, args: Any, tasks: Any = None, *more: Any) -> Any:
        """vLLM's application, with routes more and with `OtherPaths`."""
        app = original(args, tasks, *more)
        self._renders = "render" in (tasks or ())
        self._said = settings.read(getattr(args, "additional_config", None), os.environ)
        add_emotions(app, self._load, _ChatsOnce())
        if self._said is not None and not self._renders:
            if self._said.judge:
                add_reading(app, self._said.judge, self._load(self._said))
            add_page(app)
        # The innermost: behind authentication. vLLM has made the stack already: it is made again.
        app.user_middleware.append(Middleware(OtherPaths))
        app.middleware_stack = None
        return app

    def _check_names(self, request: Any) -> None:
        """vLLM's 400 for what is nearly a field: like all that it does not know it would pass."""
        for name in request.model_extra or ():
            meant = name.lower().removesuffix("s")
            if self._said is not None and meant in ASKING and name not in ASKING:
                raise VLLMValidationError(f"{name!r} is no field: did you mean {meant!r}?")

    def take_fields(self, original: Callable, request: Any, *args: Any, **kwargs: Any) -> Any:
        """vLLM's sampling parameters of a body, the fields at its top in their ``extra_args``.

        What cannot be is refused here already: a stream has begun when the engine would refuse it.
        """
        params = original(request, *args, **kwargs)
        said, extra = _said(request), params.extra_args or {}
        self._check_names(request)
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


class _ChatsOnce:
    """Whether a server takes messages; found out when it is first asked."""

    def __init__(self) -> None:
        self._found: bool | None = None

    async def __call__(self, state: Any) -> bool:
        """As its renderer does with a message: by --chat-template, the tokenizer's, or its own."""
        if self._found is None:
            self._found = await renders_messages(state.online_renderer)
        return self._found


async def renders_messages(rendering: Any) -> bool:
    """Whether an ``OnlineRenderer`` makes a prompt of a message."""
    params = ChatParams(
        chat_template=rendering.chat_template,
        chat_template_content_format=rendering.chat_template_content_format,
        chat_template_kwargs=rendering.default_chat_template_kwargs,
    )
    try:
        await rendering.renderer.render_messages_async([{"role": "user", "content": "hi"}], params)
    except ChatTemplateResolutionError:
        return False
    except Exception as error:  # whatever a template raises
        logger.warning("Messages cannot be rendered: %s: %s", type(error).__name__, error)
        return False
    return True
