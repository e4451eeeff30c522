"""What may be chosen, by name: each thing has its names here, and is checked at this one door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, Literal, TypeVar, cast

from emokernel.errors import SteeringError
from emokernel.reference import Law

# Plain strings, as files and journals hold them; each has the names of its table below.
LawName = Literal["preserve", "add"]
DoseName = Literal["absolute", "relative"]
PositionsName = Literal["all", "prompt", "generated", "last"]
SiteName = Literal["attention", "block"]
MappingName = Literal["wheel", "axes"]

Name = TypeVar("Name", bound=str)
Value = TypeVar("Value")


class Choice(Mapping[Name, Value], Generic[Name, Value]):
    """The names that one thing may be called by, and what each of them means.

    The first is what holds where nothing is said.
    """

    def __init__(self, what: str, **values: Value) -> None:
        self.what, self._values = what, cast(dict[Name, Value], values)

    def check(self, name: str) -> Name:
        """``name`` itself, or SteeringError if there is no such choice."""
        if name not in self:
            raise SteeringError(f"unknown {self.what} {name!r}: choose one of {', '.join(self)}")
        return cast(Name, name)

    @property
    def default(self) -> Name:
        """The first of the names."""
        return next(iter(self))

    def __getitem__(self, name: str) -> Value:
        return self._values[self.check(name)]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values


LAW: Choice[LawName, Law]
DOSE: Choice[DoseName, Law]
POSITIONS: Choice[PositionsName, tuple[bool, bool, bool]]
SITE: Choice[SiteName, str]
MAPPING: Choice[MappingName, str]

# How a row is changed (`emokernel.reference`), and in what unit weights count: bits of a slot.
LAW = Choice("law", preserve=Law.PRESERVE, add=Law.ADD)
DOSE = Choice("dose", absolute=Law.ADD, relative=Law.RELATIVE)
# What rows are steered, of the tokens of a sequence: prompt, last prompt token, generated.
POSITIONS = Choice(
    "positions",
    all=(True, True, True),
    prompt=(True, True, False),
    generated=(False, False, True),
    last=(False, True, True),
)
# Where in a block, and in which space its vectors live.
SITE = Choice("site", attention="behind the attention branch", block="at the end of the block")
# How a point of the circumplex becomes a mix.
MAPPING = Choice("mapping", wheel="the neighbouring emotions", axes="valence and arousal")


def law_bits(law: str, dose: str) -> Law:
    """What the slots of a law and a dose hold; SteeringError for an unknown name."""
    return LAW[law] | DOSE[dose]
