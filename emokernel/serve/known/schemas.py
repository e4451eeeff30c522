"""What is told of emotions and of texts; the names of fields are a public contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from emokernel.choices import DoseName, LawName, PositionsName
from emokernel.serve.schemas.shared import Strict

# The most that is looked at of a request to read.
MOST_TEXTS, LONGEST_TEXT = 64, 20_000

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


class ReadBody(Strict):
    """One ``text`` to read, or several ``texts``."""

    text: Text | None = None
    texts: list[Text] | None = Field(None, min_length=1, max_length=MOST_TEXTS)

    @model_validator(mode="after")
    def _something_to_read(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either text or texts")
        return self

    def all_texts(self) -> list[str]:
        """What is to be read, in its order."""
        return list(self.texts or ()) if self.text is None else [self.text]


class Place(BaseModel):
    """A point of the circumplex."""

    valence: float
    arousal: float

    @classmethod
    def at(cls, valence: float, arousal: float) -> Place:
        """Without the last digits, which are rounding: 0 is no 1e-16."""
        return cls(valence=round(valence, 6) + 0.0, arousal=round(arousal, 6) + 0.0)


class Reading(BaseModel):
    """What the judge reads in one text.

    ``scores``: the probability of each label. ``place``: the mean of the labels' points, weighted
    by these; null if no label has one.
    """

    index: int
    label: str
    scores: dict[str, float]
    place: Place | None


class ReadAnswer(BaseModel):
    """The readings of all texts, in their order; ``model`` is the judge."""

    object: Literal["list"] = "list"
    model: str
    coordinates: str
    data: list[Reading]


class EmotionAnswer(BaseModel):
    """One emotion: its place on the circumplex, where the table knows it.

    ``steered``: whether it can be asked for; ``why_not`` says why it cannot. ``weight``: what
    strength 1.0 of it is, with the law and the dose that hold unless others are asked for.
    """

    id: str
    object: Literal["emotion"] = "emotion"
    valence: float | None = None
    arousal: float | None = None
    steered: bool
    why_not: str | None
    weight: float | None


class CalibrationAnswer(BaseModel):
    """What strength 1.0 was chosen to be, for which laws and doses, and how.

    ``record``: what the file says of that, such as the judge and the bounds.
    """

    strength: str
    law: LawName
    dose: DoseName
    calibrated_for: list[str]
    record: dict[str, Any]


class DefaultsAnswer(BaseModel):
    """What holds where a request leaves it open."""

    law: LawName
    dose: DoseName
    positions: PositionsName


class TableAnswer(BaseModel):
    """How a point becomes a mix, and the table that says where emotions are.

    ``states``: twelve places around the circle, those of arXiv 2504.14706.
    """

    mapping: str
    coordinates: str
    source: str
    states: list[Place]


class AbilitiesAnswer(BaseModel):
    """What else this server does, for those who meet it for the first time.

    ``chat``: whether the model takes messages, or continues a text. ``sides``: the most of one
    compare; null where texts are written by a request each and keep the emotion that they began
    with. ``judge`` reads texts; null where nobody does. ``max_tokens``: the longest answer, null
    where it is bounded by the model alone.
    """

    chat: bool
    sides: int | None
    judge: str | None
    max_tokens: int | None


class EmotionsAnswer(BaseModel):
    """The emotions that requests may ask for, and what is known of their vectors."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmotionAnswer]
    site: str
    layers: list[int]
    num_layers: int
    calibration: CalibrationAnswer | None
    circumplex: TableAnswer
    defaults: DefaultsAnswer
    abilities: AbilitiesAnswer
    provenance: dict[str, Any]
