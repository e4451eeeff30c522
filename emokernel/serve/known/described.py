"""The emotions that can be asked for, and what is known of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emokernel.affect import TWELVE_STATES, Coordinates
from emokernel.errors import EmokernelError
from emokernel.requests import Request
from emokernel.serve.known.paths import without_paths
from emokernel.serve.known.schemas import (
    AbilitiesAnswer,
    CalibrationAnswer,
    DefaultsAnswer,
    EmotionAnswer,
    EmotionsAnswer,
    Place,
    TableAnswer,
)
from emokernel.state import Asked
from emokernel.vectors import EmotionVectors
from emokernel.vectors.calibration import Calibration, key_of

# Of a record: the rest are measurements by the thousand.
_OF_RECORD = ("judge", "bounds", "chosen", "prompts", "sampling")


@dataclass(frozen=True, kw_only=True)
class Known:
    """By what one model is steered, whoever generates.

    ``name``: what clients call the model. ``layers``: those that are steered. ``strengths``: what
    strength 1.0 is, for people. ``defaults``: what a request means where it leaves things open.
    ``resolve(request)``: what it asks for; EmokernelError for what cannot be asked for.
    """

    name: str
    vectors: EmotionVectors
    calibration: Calibration | None
    coordinates: Coordinates
    mapping: str
    site: str
    layers: Sequence[int]
    strengths: str
    defaults: Request
    resolve: Callable[[Request], Asked]


def describe(known: Known, abilities: AbilitiesAnswer) -> EmotionsAnswer:
    """All that clients are told of the emotions of a server; no path of a file."""
    usual, table = known.defaults, known.coordinates
    return EmotionsAnswer(
        model=known.name,
        data=[_emotion(known, name) for name in known.vectors.names],
        site=known.site,
        layers=list(known.layers),
        num_layers=known.vectors.num_layers,
        calibration=_calibration(known),
        circumplex=TableAnswer(
            mapping=known.mapping,
            coordinates=without_paths(table.name),
            source=without_paths(table.source),
            states=[Place.at(each.valence, each.arousal) for each in TWELVE_STATES],
        ),
        defaults=DefaultsAnswer(law=usual.law, dose=usual.dose, positions=usual.positions),
        abilities=abilities.model_copy(update={"judge": without_paths(abilities.judge)}),
        provenance=without_paths(dict(known.vectors.provenance)),
    )


def _emotion(known: Known, name: str) -> EmotionAnswer:
    point, weight, why_not = known.coordinates.get(name), None, None
    try:
        mix = known.resolve(Request(name)).mix
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


def _calibration(known: Known) -> CalibrationAnswer | None:
    calibration = known.calibration
    if calibration is None:
        return None
    record: dict[str, Any] = {
        name: calibration.record[name] for name in _OF_RECORD if name in calibration.record
    }
    key = key_of(known.defaults.law, known.defaults.dose)
    measured = calibration.record.get("at_strength_1")
    if isinstance(measured, dict) and key in measured:
        record["at_strength_1"] = measured[key]
    return CalibrationAnswer(
        strength=known.strengths, law=calibration.law, dose=calibration.dose,
        calibrated_for=list(calibration.strengths), record=without_paths(record),
    )  # fmt: skip
