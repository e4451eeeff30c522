"""The routes beside vLLM's own: which emotions there are, what a judge reads, and the page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from emokernel import requests
from emokernel.engines.vllm.hooks import settings_of
from emokernel.engines.vllm.settings import Settings
from emokernel.errors import EmokernelError, SteeringError
from emokernel.serve.front.refusals import refusal
from emokernel.serve.known.described import Known, describe
from emokernel.serve.known.paths import without_paths
from emokernel.serve.known.reading import Reader
from emokernel.serve.known.schemas import AbilitiesAnswer, EmotionsAnswer, ReadAnswer, ReadBody
from emokernel.serve.page.routes import page_routes
from emokernel.serve.vllm.named import LoadNamed, NamedVectors

logger = logging.getLogger("vllm.emokernel")

# Seconds for the answer of a core: it may be in the middle of a step, or be no more.
_PATIENCE = 30.0


def add_emotions(
    app: FastAPI,
    load: LoadNamed,
    chats: Callable[[Any], Awaitable[bool]],
) -> None:
    """``GET /v1/emotions``; ``chats(state)``: whether the server takes messages."""

    async def list_emotions(request: Request) -> Any:
        """The emotions of the model; 503 with the reason unless all workers steer by them."""
        state = request.app.state
        try:
            said, vectors = await _steering(load, state.engine_client)
        except Exception as error:  # whatever a core that is no more raises
            why = without_paths(str(error)) or type(error).__name__
            message = f"emotions cannot be asked for: {why}"
            told = {"message": message, "type": "server_error", "param": None, "code": 503}
            return JSONResponse({"detail": message, "error": told}, status_code=503)
        abilities = AbilitiesAnswer(
            chat=await chats(state), sides=None, judge=said.judge or None, max_tokens=None
        )
        name = state.openai_serving_models.model_name()
        return describe(known(name, vectors.resolver), abilities)

    app.add_api_route("/v1/emotions", list_emotions, methods=["GET"], response_model=EmotionsAnswer)


def add_reading(app: FastAPI, judge: str, vectors: NamedVectors) -> None:
    """``POST /v1/emotions/read``.

    By the CPU: a judge that took the GPU would want the memory that vLLM has counted as its own.
    """
    reader = Reader(judge, vectors.resolver.mixer.coordinates, "cpu")

    async def read_emotions(body: ReadBody) -> Any:
        """What a judge reads in texts: its labels, and the place of the text on the circumplex."""
        try:
            return await reader.read(body.all_texts())
        except EmokernelError as error:
            return refusal(error)

    app.add_api_route(
        "/v1/emotions/read", read_emotions, methods=["POST"], response_model=ReadAnswer
    )


def add_page(app: FastAPI) -> None:
    """The page, unless somebody else's answers at one of its addresses."""
    routes = page_routes()
    taken = [route.path for route in routes if _is_taken(app, route.path)]
    if taken:
        logger.warning("This server has something else at %s: there is no page.", taken[0])
    else:
        app.router.routes.extend(routes)


def known(name: str, resolver: requests.Resolver) -> Known:
    """By what a model of this name is steered."""
    mixer, choices = resolver.mixer, resolver.choices
    return Known(
        name=name, vectors=mixer.vectors, calibration=mixer.calibration,
        coordinates=mixer.coordinates, mapping=mixer.mapping, site=choices.site,
        layers=choices.layers, strengths=choices.strengths,
        defaults=requests.Request(None, 1.0, choices.law, choices.dose, choices.positions),
        resolve=resolver,
    )  # fmt: skip


async def _steering(load: LoadNamed, engine: Any) -> tuple[Settings, NamedVectors]:
    """By what all workers steer; an error if they do not."""
    said = settings_of(engine.vllm_config)
    if said is None:
        raise SteeringError("this server has no emotion vectors")
    vectors = load(said)
    asked = engine.engine_core.call_utility_all_async("emokernel_status")
    cores = await asyncio.wait_for(asked, _PATIENCE)
    if any(core["of"] != vectors.of for core in cores):
        raise SteeringError("the vectors of the workers are others: restart the server")
    return said, vectors


def _is_taken(app: FastAPI, path: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(dict(scope))[0] is not Match.NONE for route in app.router.routes)
