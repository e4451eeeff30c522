"""What a compare takes and gives; the names of fields are a public contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from emokernel.choices import DoseName, LawName, PositionsName
from emokernel.serve.known.schemas import Place
from emokernel.serve.schemas.parts import Text as Content
from emokernel.serve.schemas.shared import (
    LARGEST_SEED,
    Feeling,
    MaxTokens,
    Short,
    Strict,
    Temperature,
    TopP,
    union,
)

# The most of each that is looked at; a server's own limits may be lower.
MOST_SIDES, MOST_MESSAGES = 64, 256
LONGEST_NAME = 200


def _kind(side: Any) -> str:
    if side is None:
        return "none"
    return "name" if isinstance(side, str) else "fields"


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Side = union(
    ("none", None),
    ("name", Name),
    ("fields", Feeling),
    tell=_kind,
    says="a name, an object with the fields of an emotion, or null",
)
Sides = Annotated[
    list[Side],
    Field(
        min_length=1,
        max_length=MOST_SIDES,
        description="Of each side null for none, a name, or the fields of a feeling",
    ),
]


class Message(Strict):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Content


class CompareBody(Strict):
    """One context for several emotions: a ``prompt``, or ``messages``."""

    model: Short | None = Field(None, description="That of this server")
    prompt: Content | None = Field(
        None, min_length=1, description="A message to a chat model; others continue it"
    )
    messages: list[Message] | None = Field(None, min_length=1, max_length=MOST_MESSAGES)
    system: Content | None = Field(None, description="A chat model's system message")
    emotions: Sides
    seed: int | None = Field(
        None, ge=0, le=LARGEST_SEED, description="Of the random numbers, which all sides share"
    )
    temperature: Temperature = Field(0.8, description="0 takes the likeliest token")
    top_p: TopP = 0.9
    max_tokens: MaxTokens | None = Field(
        None, description="Of each side; 256, or what the model has room for"
    )

    @model_validator(mode="after")
    def _one_context(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.messages and self.system is not None and self.messages[0].role == "system":
            raise ValueError("give the system message once: as system, or as the first of messages")
        return self


class ChangeBody(Strict):
    """The emotions of all sides of a stream, from its next token on."""

    emotions: Sides
    again: bool = Field(
        True,
        description="Whether a side that changes reads all that it has so far again, as if the"
        " emotion had been asked for from the beginning; false: it goes on with what it has read,"
        " unless the model keeps no cache and reads all for each token, as `changed` then says",
    )


class Told(BaseModel):
    """What a side was asked to feel, nothing of it left open.

    ``mix``: the vectors that are added, and their weights. ``place``: where it is on the
    circumplex, null where the table does not know all of its names.
    """

    emotion: str | dict[str, float]
    strength: float
    law: LawName
    dose: DoseName
    positions: PositionsName
    place: Place | None
    mix: dict[str, float]


class Start(BaseModel):
    """First: what was understood, and the token by which the emotions can be changed."""

    type: Literal["start"] = "start"
    stream: str
    model: str
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    prompt_tokens: int
    emotions: list[Told | None]


class Piece(BaseModel):
    """What a token adds to the text of a side.

    ``step``: the number of that token, from 0. ``at``: seconds since the start of the stream.
    """

    type: Literal["text"] = "text"
    side: int
    step: int
    at: float
    text: str


class Changed(BaseModel):
    """The tokens from ``step`` on are chosen under these emotions.

    ``again``: whether sides that changed have read their text so far again under them.
    """

    type: Literal["changed"] = "changed"
    step: int
    at: float
    emotions: list[Told | None]
    again: bool


class End(BaseModel):
    """A side has ended: by itself, or at ``max_tokens``. ``tokens``: those of its text."""

    type: Literal["end"] = "end"
    side: int
    step: int
    at: float
    reason: Literal["stop", "length"]
    tokens: int


class Usage(BaseModel):
    """Tokens: of the prompt, which all sides share, of all sides, and of both."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Done(BaseModel):
    """All sides have ended; behind it there is only ``data: [DONE]``."""

    type: Literal["done"] = "done"
    at: float
    usage: Usage


class Failed(BaseModel):
    """Nothing more comes, and why."""

    type: Literal["error"] = "error"
    message: str


Event = Annotated[Start | Piece | Changed | End | Done | Failed, Field(discriminator="type")]


def event_schema() -> dict[str, Any]:
    """The JSON schema of one server-sent event, as OpenAPI 3.2 has it, without references."""
    schema = TypeAdapter(Event).json_schema(mode="serialization")
    known = schema.pop("$defs")

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(known[part["$ref"].rpartition("/")[2]])
        return {key: inlined(each) for key, each in part.items() if key != "discriminator"}

    told = {"type": "string", "contentMediaType": "application/json"}
    data = {"anyOf": [{"const": "[DONE]"}, {**told, "contentSchema": inlined(schema)}]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


class ChangeAnswer(BaseModel):
    """``from_step``: the first token, from 0, that is chosen under ``emotions``.

    It comes if the text goes on so far; the stream says so by its own event.
    """

    from_step: int
    emotions: list[Told | None]
