"""What was asked for as a client is told it: nothing left open, with its place on the circle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from emokernel.affect import Affect, Coordinates
from emokernel.affect.mixes import Mixer
from emokernel.requests import Request
from emokernel.serve.emotions.schemas import Told
from emokernel.serve.known.schemas import Place
from emokernel.steering import Steering

# In the mix of a point where the mapping is "axes": behind the vectors.
_AXES = "valence axis", "arousal axis"


def coordinates_of(steering: Steering) -> Coordinates:
    """The table that says where the emotions of a model are: its calibration's, or "russell"."""
    return Mixer(steering.vectors, steering.calibration).coordinates


def told(steering: Steering, requests: Sequence[Request | None]) -> list[Told | None]:
    """Each of ``requests``, which can be steered, as a client is told it."""
    table, usual = coordinates_of(steering), steering.defaults
    names = [*steering.vectors.names, *_AXES]

    def one(request: Request) -> Told:
        mix = steering.requested.resolve(request).mix
        components = () if mix is None else mix.components
        emotion = request.emotion
        return Told(
            emotion=(
                {"valence": emotion.valence, "arousal": emotion.arousal}
                if isinstance(emotion, Affect)
                else emotion if isinstance(emotion, str) else dict(emotion or {})
            ),
            strength=float(request.strength),
            law=request.law or usual.law,
            dose=request.dose or usual.dose,
            positions=request.positions or usual.positions,
            place=_place(emotion, table),
            mix={names[number]: weight for number, weight in components},
        )  # fmt: skip

    return [None if request is None else one(request) for request in requests]


def _place(emotion: Affect | str | Mapping[str, float] | None, table: Coordinates) -> Place | None:
    """Where an emotion is; a mix at the sum of its parts, on the circle if that lies outside."""
    if emotion is None:
        return None
    if isinstance(emotion, Affect):
        return Place.at(emotion.valence, emotion.arousal)
    parts = {emotion: 1.0} if isinstance(emotion, str) else emotion
    points = {name: table.get(name) for name in parts}
    if not all(points.values()):
        return None
    valence = sum(weight * points[name].valence for name, weight in parts.items())
    arousal = sum(weight * points[name].arousal for name, weight in parts.items())
    outside = max(1.0, math.hypot(valence, arousal))
    return Place.at(valence / outside, arousal / outside)
