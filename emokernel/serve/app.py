"""The application: which paths there are."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from openai.types import Model
from starlette.responses import Response

from emokernel.serve.emotions.routes import emotion_routes
from emokernel.serve.front.errors import DrainingError, UnavailableError
from emokernel.serve.front.handlers import REFUSALS, install
from emokernel.serve.openai import openai_routes
from emokernel.serve.page.routes import page_routes
from emokernel.serve.schemas.handled import unknown_model
from emokernel.serve.service import Service


def make_app(service: Service, chat: Any, completion: Any, response: Any) -> FastAPI:
    """All routes; the last three: the handlers of transformers' server."""
    app = FastAPI(
        title="emokernel",
        summary="A language model whose every request may carry an emotion",
        version=version("emokernel"),
        docs_url=None,  # pages that load their scripts from elsewhere
        redoc_url=None,
        responses=REFUSALS,
    )
    install(app)
    app.include_router(openai_routes(service, chat, completion, response))
    app.include_router(emotion_routes(service))
    app.router.routes.extend(page_routes())
    _add_watched(app, service)
    return app


def _add_watched(app: FastAPI, service: Service) -> None:
    """What tells of the server itself."""
    steering, admission = service.steering(), service.admission
    service.metrics.watch(
        slots_in_use=lambda: steering.requested.slots.held,
        slots=lambda: service.slots,
        running=lambda: admission.running,
        waiting=lambda: admission.waiting,
    )

    @app.get("/health", summary="Whether the process can answer")
    def health() -> dict[str, str]:
        if not service.manager.is_alive():
            raise UnavailableError("what generates has failed: the server has to be started anew")
        return {"status": "ok"}

    @app.get("/ready", summary="Whether new requests are taken")
    def ready() -> dict[str, str]:
        if admission.draining:
            raise DrainingError("the server is being stopped: ask another one")
        return health()

    @app.get("/metrics", response_class=PlainTextResponse, summary="What Prometheus reads")
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    one = Model(id=service.name, created=int(time.time()), object="model", owned_by="emokernel")

    @app.get("/v1/models", summary="The model that is served, in a list")
    def models() -> dict[str, str | list[Model]]:
        return {"object": "list", "data": [one]}

    @app.get("/v1/models/{name:path}", summary="The model that is served")
    def model(name: str) -> Model:
        if name != service.name:
            raise unknown_model(name, service.name)
        return one
