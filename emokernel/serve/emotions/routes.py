"""The routes of emotions: which there are, compared, changed and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response, StreamingResponse

from emokernel.serve.emotions.compare import check_body, compare, requests_of
from emokernel.serve.emotions.described import described
from emokernel.serve.emotions.schemas import (
    ChangeAnswer,
    ChangeBody,
    CompareBody,
    event_schema,
)
from emokernel.serve.emotions.streams import Streams
from emokernel.serve.emotions.told import coordinates_of, told
from emokernel.serve.front.errors import ConflictError
from emokernel.serve.front.generating import Generating
from emokernel.serve.front.handlers import REFUSALS
from emokernel.serve.known.reading import Reader
from emokernel.serve.known.schemas import EmotionsAnswer, ReadAnswer, ReadBody

if TYPE_CHECKING:
    from emokernel.serve.service import Service

_COMPARE = "/v1/emotions/compare"
_EVENTS = "Server-sent events, each one line `data: JSON`; the last one is `data: [DONE]`."


def emotion_routes(service: Service) -> APIRouter:
    """The routes; what they refuse is an EmokernelError, which the application answers."""
    router = APIRouter(tags=["emotions"], responses=REFUSALS)
    streams = Streams()
    reader = Reader(service.judge, coordinates_of(service.steering()))

    @router.get("/v1/emotions")
    def list_emotions() -> EmotionsAnswer:
        """The emotions of the model: their places, what strength 1.0 is, where they are from."""
        return described(service)

    @router.post(
        _COMPARE,
        response_class=StreamingResponse,
        response_model=None,
        responses={
            200: {
                "description": _EVENTS,
                "content": {"text/event-stream": {"itemSchema": event_schema()}},
            }
        },
    )
    async def compare_emotions(body: CompareBody) -> Response:
        """One prompt under several emotions, in one batch with the same random numbers for all.

        The sides differ by their emotion alone. The events are `start`, with the token by which
        the emotions can be changed, `text`, `changed`, `end` and `done`, or `error`.
        """
        check_body(service, body)
        requests = requests_of(service, body.emotions)

        async def answer() -> Response:
            return await compare(service, streams, body, requests)

        return Generating(
            service, answer, endpoint=_COMPARE, rows=len(requests), steered=any(requests)
        )

    @router.post("/v1/emotions/streams/{token}")
    def change_emotions(
        token: Annotated[str, Path(min_length=1, max_length=200)], body: ChangeBody
    ) -> ChangeAnswer:
        """Other emotions for the sides of a running compare, from its next token on."""
        stream = streams.get(token)
        if stream is None:
            if service.is_running(token):
                raise ConflictError(
                    "a request keeps the emotion that it began with; a stream of"
                    f" {_COMPARE} can change its own"
                )
            raise streams.missing()
        requests = requests_of(service, body.emotions)
        emotions = told(service.steering(), requests)
        return ChangeAnswer(from_step=stream.change(requests, body.again), emotions=emotions)

    @router.post("/v1/emotions/read")
    async def read_emotions(body: ReadBody) -> ReadAnswer:
        """What a judge reads in texts: its labels, and the place of the text on the circumplex.

        A text that is longer than the judge takes is read up to there.
        """
        return await reader.read(body.all_texts())

    return router
