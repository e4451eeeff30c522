"""One prompt under several emotions: a batch whose rows differ by the emotion alone."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.responses import Response

from emokernel.errors import EmokernelError
from emokernel.lab.measure.sampling import Sampling
from emokernel.requests import Request
from emokernel.serve.emotions.context import Context, context_of, length_of
from emokernel.serve.emotions.schemas import CompareBody, Side
from emokernel.serve.emotions.streams import Stream, Streams
from emokernel.serve.front.errors import BodyError
from emokernel.serve.schemas.handled import check_model
from emokernel.serve.schemas.shared import Feeling

if TYPE_CHECKING:
    from emokernel.serve.service import Service

_TOKENS = 256  # that are written unless others are asked for
_SEEDS = 2**32  # of which one is chosen where none is given


def requests_of(service: Service, sides: Sequence[Side]) -> list[Request | None]:
    """What each side asks for, checked; EmokernelError names the side that cannot be."""
    if len(sides) > service.limits.sides:
        raise BodyError(
            f"emotions has at most {service.limits.sides} sides, got {len(sides)}: send less",
            "emotions",
        )
    return [_request(service, number, side) for number, side in enumerate(sides)]


def _request(service: Service, number: int, side: Side) -> Request | None:
    try:
        request = (side if isinstance(side, Feeling) else Feeling(emotion=side)).asked()
        if request is None or request.emotion is None:
            return None
        service.check(request)
        return request
    except EmokernelError as error:
        raise BodyError(f"emotions[{number}]: {error}", f"emotions[{number}]") from error


def check_body(service: Service, body: CompareBody) -> None:
    """EmokernelError for what this server does not serve."""
    check_model(body, service.name)
    if (body.max_tokens or 0) > service.limits.max_tokens:
        raise BodyError(f"max_tokens must be at most {service.limits.max_tokens}", "max_tokens")
    parts = (body.prompt, body.system, *(each.content for each in body.messages or ()))
    written = sum(len(part or "") for part in parts)
    if written > service.limits.prompt_characters:
        raise BodyError(
            f"the prompt has {written} characters, {service.limits.prompt_characters} at most:"
            " send less"
        )


async def compare(
    service: Service, streams: Streams, body: CompareBody, requests: Sequence[Request | None]
) -> Response:
    """The response that streams all sides; EmokernelError for a context that cannot be read."""
    context, length = await streams.run(_read, service, body)
    sampling = Sampling(length, body.temperature, body.top_p)
    seed = secrets.randbelow(_SEEDS) if body.seed is None else body.seed
    return streams.response(Stream(service, context, requests, sampling, seed))


def _read(service: Service, body: CompareBody) -> tuple[Context, int]:
    model, tokenizer = service.loaded()
    context = context_of(tokenizer, body)
    usual = min(_TOKENS, service.limits.max_tokens)
    return context, length_of(model, len(context.ids), body.max_tokens, usual)
