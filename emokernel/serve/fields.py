"""The fields of a request's body that say how it is to be steered."""

from __future__ import annotations

import json
from typing import Any

from emokernel.affect import Affect
from emokernel.affect.circumplex import is_number
from emokernel.errors import SteeringError
from emokernel.requests import Request
from emokernel.vectors.formats.json_files import unique

_OPTIONS = ("strength", "law", "dose", "positions")
_POINT = ("valence", "arousal", "intensity")
# Names are short and mixes small; a longer one is not looked for, and not repeated.
_LONGEST_NAME, _LARGEST_MIX, _LONGEST_TEXT = 200, 64, 20_000


def take_request(body: dict[str, Any]) -> Request | None:
    """What the body asks for, its fields taken out of it; None if it asks for nothing.

    ``emotion`` is a name, {name: weight}, {"valence": number, "arousal": number}, perhaps with an
    ``intensity`` (1 unless given) that multiplies both, or null, for nothing; where only texts and
    flat lists can be sent, the text of that JSON or [name, weight, name, weight, ...]. The three of
    a point may stand beside the other fields, too, without ``emotion``. ``strength``, ``law``,
    ``dose`` and ``positions`` are those of a `Request`. SteeringError for what is none of these,
    and for options without an emotion.
    """
    options = {name: body.pop(name) for name in _OPTIONS if name in body}
    point = {name: body.pop(name) for name in _POINT if name in body}
    if "emotion" not in body:
        if not point:
            if options:
                raise SteeringError(
                    f"{', '.join(options)} without emotion: name one, or leave it out"
                )
            return None
        emotion: Any = point
    else:
        emotion = _spelled(body.pop("emotion"))
        if point:
            raise SteeringError(f"{', '.join(point)} beside emotion: give one of them")
    _check_size(emotion)
    for name in ("law", "dose", "positions"):
        value = options.get(name)
        if value is not None and not isinstance(value, str):
            raise SteeringError(f"{name} must be a text, got {value!r}")
        _check_size(value)
    return Request(_point(emotion) if _is_point(emotion) else emotion, **options)


def _spelled(emotion: Any) -> Any:
    """What a text or a flat list stands for."""
    if isinstance(emotion, str) and emotion.lstrip().startswith("{"):
        if len(emotion) > _LONGEST_TEXT:
            raise SteeringError(f"emotion has {_LONGEST_TEXT} characters at most: send fewer names")
        try:
            return json.loads(emotion, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise SteeringError(f"emotion is no JSON: {str(error)[:_LONGEST_NAME]}") from error
    if isinstance(emotion, list):
        names, weights = emotion[::2], emotion[1::2]
        if len(names) != len(weights) or not all(isinstance(name, str) for name in names):
            raise SteeringError("a list of emotions is [name, weight, name, weight, ...]")
        if len(set(names)) < len(names):
            raise SteeringError("a list of emotions names each once")
        return dict(zip(names, weights, strict=True))
    return emotion


def _check_size(given: Any) -> None:
    """SteeringError for names that are too long to be any, and for too many of them."""
    names = given if isinstance(given, dict) else [given]
    if len(names) > _LARGEST_MIX:
        raise SteeringError(f"emotion names {len(names)} emotions, {_LARGEST_MIX} at most: fewer")
    if any(isinstance(name, str) and len(name) > _LONGEST_NAME for name in names):
        raise SteeringError(
            f"a name has {_LONGEST_NAME} characters at most: give one that is known"
        )


def _is_point(emotion: Any) -> bool:
    return isinstance(emotion, dict) and bool(emotion) and set(emotion) <= set(_POINT)


def _point(emotion: dict[str, Any]) -> Affect:
    given = [({"intensity": 1.0} | emotion).get(name) for name in _POINT]
    if not all(map(is_number, given)):
        raise SteeringError(f"a point needs the numbers valence and arousal, got {emotion!r}")
    valence, arousal, intensity = map(float, given)  # products of integers may be beyond floats
    if intensity < 0:
        raise SteeringError(f"intensity counts from 0, neutral, to 1, got {intensity!r}")
    return Affect(valence * intensity, arousal * intensity)
