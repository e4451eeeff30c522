"""The fields of a request's body that say how it is to be steered."""

from __future__ import annotations

from typing import Any

from emokernel.affect import Affect
from emokernel.affect.circumplex import is_number
from emokernel.errors import SteeringError
from emokernel.requests import Request

_OPTIONS = ("strength", "law", "dose", "positions")
_POINT = {"valence", "arousal"}
# Names are short and mixes small; a longer one is not looked for, and not repeated.
_LONGEST_NAME, _LARGEST_MIX = 200, 64


def take_request(body: dict[str, Any]) -> Request | None:
    """What the body asks for, its fields taken out of it; None if it has no field ``emotion``.

    ``emotion`` is a name, {name: weight}, {"valence": number, "arousal": number} or null, for
    nothing; ``strength``, ``law``, ``dose`` and ``positions`` are those of a `Request`.
    SteeringError for what is none of these, and for options without an emotion.
    """
    options = {name: body.pop(name) for name in _OPTIONS if name in body}
    if "emotion" not in body:
        if options:
            raise SteeringError(f"{', '.join(options)} without emotion: name one, or leave it out")
        return None
    emotion = body.pop("emotion")
    _check_size(emotion)
    for name in ("law", "dose", "positions"):
        value = options.get(name)
        if value is not None and not isinstance(value, str):
            raise SteeringError(f"{name} must be a text, got {value!r}")
        _check_size(value)
    return Request(_point(emotion) if _is_point(emotion) else emotion, **options)


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
    return isinstance(emotion, dict) and bool(emotion) and set(emotion) <= _POINT


def _point(emotion: dict[str, Any]) -> Affect:
    given = [emotion.get("valence"), emotion.get("arousal")]
    if not all(map(is_number, given)):
        raise SteeringError(f"a point needs the numbers valence and arousal, got {emotion!r}")
    return Affect(*given)
