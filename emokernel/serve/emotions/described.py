"""The emotions that can be asked for, and what is known of their vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.errors import EmokernelError
from emokernel.requests import Request
from emokernel.serve.emotions.paths import without_paths
from emokernel.serve.emotions.schemas import (
    AbilitiesAnswer,
    CalibrationAnswer,
    DefaultsAnswer,
    EmotionAnswer,
    EmotionsAnswer,
    Place,
    TableAnswer,
)
from emokernel.serve.emotions.told import coordinates_of
from emokernel.steering import Steering
from emokernel.vectors.calibration import key_of

if TYPE_CHECKING:
    from emokernel.serve.service import Service

# Of a record: the rest are measurements by the thousand.
_OF_RECORD = ("judge", "bounds", "chosen", "prompts", "sampling")


def described(service: Service) -> EmotionsAnswer:
    """All that clients are told of the emotions of a server; no path of a file."""
    steering = service.steering()
    report, usual, table = steering.report(), steering.defaults, coordinates_of(steering)
    source = without_paths(table.source)
    return EmotionsAnswer(
        model=service.name,
        data=[_emotion(steering, name, table) for name in steering.vectors.names],
        site=report.site,
        layers=[each.layer for each in report.layers],
        num_layers=report.num_layers,
        calibration=_calibration(steering, report.strengths),
        circumplex=TableAnswer(
            mapping=steering.mapping,
            coordinates=without_paths(table.name),
            source=source,
            states=[Place.at(each.valence, each.arousal) for each in TWELVE_STATES],
        ),
        defaults=DefaultsAnswer(law=usual.law, dose=usual.dose, positions=usual.positions),
        abilities=AbilitiesAnswer(
            chat=bool(getattr(service.loaded()[1], "chat_template", None)),
            sides=service.limits.sides,
            judge=without_paths(service.judge),
            max_tokens=service.limits.max_tokens,
        ),
        provenance=without_paths(dict(steering.vectors.provenance)),
    )


def _emotion(steering: Steering, name: str, table: Coordinates) -> EmotionAnswer:
    point, weight, why_not = table.get(name), None, None
    try:
        mix = steering.requested.resolve(Request(name)).mix
        if mix is not None:
            weight = mix.components[0][1]
    except EmokernelError as error:
        why_not = str(error)
    return EmotionAnswer(
        id=name,
        **({} if point is None else Place.at(point.valence, point.arousal).model_dump()),
        steered=why_not is None,
        why_not=why_not,
        weight=weight,
    )


def _calibration(steering: Steering, strength: str) -> CalibrationAnswer | None:
    calibration = steering.calibration
    if calibration is None:
        return None
    record: dict[str, Any] = {
        name: calibration.record[name] for name in _OF_RECORD if name in calibration.record
    }
    key = key_of(steering.defaults.law, steering.defaults.dose)
    measured = calibration.record.get("at_strength_1")
    if isinstance(measured, dict) and key in measured:
        record["at_strength_1"] = measured[key]
    return CalibrationAnswer(
        strength=strength, law=calibration.law, dose=calibration.dose,
        calibrated_for=list(calibration.strengths), record=without_paths(record),
    )  # fmt: skip
