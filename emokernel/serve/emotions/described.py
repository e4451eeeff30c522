"""What clients are told of the emotions of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emokernel.serve.emotions.told import coordinates_of
from emokernel.serve.known.described import Known, describe
from emokernel.serve.known.schemas import AbilitiesAnswer, EmotionsAnswer

if TYPE_CHECKING:
    from emokernel.serve.service import Service


def described(service: Service) -> EmotionsAnswer:
    """All of it, and what else the service does."""
    steering = service.steering()
    report = steering.report()
    emotions = Known(
        name=service.name, vectors=steering.vectors, calibration=steering.calibration,
        coordinates=coordinates_of(steering), mapping=steering.mapping, site=report.site,
        layers=[each.layer for each in report.layers], strengths=report.strengths,
        defaults=steering.defaults, resolve=steering.requested.resolve,
    )  # fmt: skip
    abilities = AbilitiesAnswer(
        chat=bool(getattr(service.loaded()[1], "chat_template", None)),
        sides=service.limits.sides,
        judge=service.judge,
        max_tokens=service.limits.max_tokens,
    )
    return describe(emotions, abilities)
