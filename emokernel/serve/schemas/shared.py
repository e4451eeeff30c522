"""What the bodies of several routes have in common: the emotion, sampling, what has no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticKnownError

from emokernel.choices import DoseName, LawName, PositionsName
from emokernel.requests import Request
from emokernel.serve.fields import take_request
from emokernel.serve.front.invalid import NO_KIND, TAG

# Far more than any model reads; what a server takes at most, its `Limits` say.
MOST_TOKENS = 2**20
LARGEST_SEED = 2**53  # of which JavaScript still knows every one below it
_SHORT = 200


class Strict(BaseModel):
    """An object without other fields; texts are no numbers, and true is none either."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _only(expected: bool | int) -> BeforeValidator:
    """0 is not false and 1 not true, which a Literal of Python takes for one another."""

    def check(given: Any) -> Any:
        if isinstance(given, bool) != isinstance(expected, bool):
            raise PydanticKnownError("literal_error", {"expected": repr(expected)})
        return given

    return BeforeValidator(check)


Off = Annotated[Literal[False], _only(False)]
On = Annotated[Literal[True], _only(True)]
One = Annotated[Literal[1], _only(1)]
Zero = Annotated[Literal[0], _only(0)]


def union(*members: tuple[str, Any], tell: Callable[[Any], str | None], says: str) -> Any:
    """The union of (name, type) whose members ``tell`` tells apart: value -> name or None.

    ``says``: what it must be, for the sentence about a value that is none of them.
    """
    tagged = [Annotated[kind, Tag(TAG + name)] for name, kind in members]
    joined = tagged[0]
    for each in tagged[1:]:
        joined = joined | each

    def named(value: Any) -> str | None:
        name = tell(value)
        return None if name is None else TAG + name

    of_no_kind = f"must be {says}"
    told = Discriminator(named, custom_error_type=NO_KIND, custom_error_message=of_no_kind)
    return Annotated[joined, told]


def by_type(value: Any) -> str | None:
    """ "text" or "list" of what may be either."""
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else None


def by_field(field: str, *known: str) -> Any:
    """Tells objects apart by one of their fields, which has one of the ``known`` values."""

    def tell(value: Any) -> str | None:
        name = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return name if isinstance(name, str) and name in known else None

    return tell


Short = Annotated[str, Field(max_length=_SHORT)]
Ignored = Annotated[Short | None, Field(description="Taken, and without effect")]
MaxTokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]

# Below these nothing but the likeliest token is drawn; logits divided by less may overflow, and a
# share of less may be none in fp32.
_LEAST_TEMPERATURE, _LEAST_TOP_P = 1e-3, 1e-6


def _temperature(given: float) -> float:
    return given if given >= _LEAST_TEMPERATURE else 0.0


def _top_p(given: float) -> float:
    return max(given, _LEAST_TOP_P)


Temperature = Annotated[float, Field(ge=0, le=2), AfterValidator(_temperature)]
TopP = Annotated[float, Field(gt=0, le=1), AfterValidator(_top_p)]

_NUMBER = {"type": "number"}
_EMOTION = {
    "description": 'A name, {name: weight}, {"valence", "arousal", "intensity"}, or null for none',
    "anyOf": [
        {"type": "string", "maxLength": 20_000},
        {"type": "object", "additionalProperties": _NUMBER, "maxProperties": 64},
        {"type": "array", "items": {"type": ["string", "number"]}, "maxItems": 128},
        {"type": "null"},
    ],
}


class Feeling(Strict):
    """The fields that say how a text is to be steered; `take_request` reads them."""

    emotion: Annotated[Any, WithJsonSchema(_EMOTION)] = None
    valence: Annotated[float, Field(ge=-1, le=1)] | None = None
    arousal: Annotated[float, Field(ge=-1, le=1)] | None = None
    intensity: Annotated[float, Field(ge=0, le=100)] | None = None
    strength: Annotated[float, Field(ge=-1000, le=1000)] = 1.0
    law: LawName | None = None
    dose: DoseName | None = None
    positions: PositionsName | None = None

    def asked(self) -> Request | None:
        """What is asked for; None if nothing is. SteeringError for what cannot be."""
        given = {name: getattr(self, name) for name in Feeling.model_fields}
        point = ("valence", "arousal", "intensity")
        return take_request({
            name: value
            for name, value in given.items()
            if name in self.model_fields_set and not (name in point and value is None)
        })  # fmt: skip


class StreamOptions(Strict):
    """How a stream ends; it always ends with the usage."""

    include_usage: bool | None = None
    include_obfuscation: Off | None = None


class Sampled(Feeling):
    """An emotion, how to draw tokens, and what clients send that changes no answer."""

    model: Short | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = None

    user: Ignored = None
    stream_options: StreamOptions | None = None


_Stop = Annotated[str, Field(min_length=1, max_length=64)]
Stop = union(
    ("text", _Stop),
    ("list", Annotated[list[_Stop], Field(fail_fast=True, max_length=4)]),
    tell=by_type,
    says="a text or a list of texts",
)


class Stopped(Sampled):
    """With what only the two older routes have."""

    stop: Stop | None = None
    n: One | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None


_Note = Annotated[str, Field(max_length=512)]
_Metadata = Annotated[dict[Short, _Note], Field(max_length=16)]


class Noted(Sampled):
    """With what only the two newer routes have."""

    metadata: _Metadata | None = None
    store: bool | None = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    top_logprobs: Zero | None = None
