"""`Coordinates`: where a table of labels puts emotions on the circumplex."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emokernel.affect.circumplex import Affect
from emokernel.affect.table_files import read_table
from emokernel.errors import EmokernelError, UnknownEmotionError

TABLES = ("russell", "glasgow")


@dataclass(frozen=True)
class Coordinates:
    """An immutable table: label -> point of the circumplex.

    ``points``: for each label an `Affect`, (valence, arousal) or ``{"angle": degrees}`` on the unit
    circle. ``source`` and ``notes`` say where they come from; ``facts`` holds what else a file
    says of a label (for the built-in tables the term or the word that stands for it, how well an
    angle is attested, ratings).

    Raises EmokernelError for a table without labels, an empty label, or a point that is not finite
    or lies outside the unit circle.
    """

    points: Mapping[str, Affect]
    name: str = "own"
    source: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.points:
            raise EmokernelError("a table of coordinates needs at least one label")
        points, facts = {}, dict(self.facts)
        for label, entry in self.points.items():
            if not isinstance(label, str) or not label.strip():
                raise EmokernelError(f"a label must be a text that is not empty, got {label!r}")
            points[label], more = _point(label, entry)
            facts |= {label: more} if more else {}
        frozen = {label: MappingProxyType(dict(more)) for label, more in facts.items()}
        object.__setattr__(self, "points", MappingProxyType(points))
        object.__setattr__(self, "facts", MappingProxyType(frozen))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy can be neither pickled nor copied.
        facts = {label: dict(more) for label, more in self.facts.items()}
        return Coordinates, (dict(self.points), self.name, self.source, self.notes, facts)

    @classmethod
    def named(cls, name: str) -> Coordinates:
        """A built-in table, one of `TABLES`; EmokernelError for another name."""
        if name not in TABLES:
            raise EmokernelError(
                f"there is no built-in table of coordinates {name!r}: choose one of"
                f" {', '.join(TABLES)}, or read a file of your own with Coordinates.load(path)"
            )
        return _built_in(name)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Coordinates:
        """A JSON file, ``{label: [valence, arousal]}`` or ``{label: {"angle": degrees}}``.

        `emokernel.affect.table_files` describes the format. Raises FileNotFoundError, or
        EmokernelError naming the file and the label.
        """
        table = read_table(Path(path))
        try:
            return cls(table["entries"], table["name"], table["source"], table["notes"])
        except EmokernelError as error:
            raise EmokernelError(f"{path}: {error}") from error

    def extended(
        self, points: Mapping[str, Any], *, source: str, name: str | None = None
    ) -> Coordinates:
        """This table with ``points``, which replace entries of the same label.

        ``source`` says where they come from. The name is "<name> extended" unless given.
        """
        kept = {label: more for label, more in self.facts.items() if label not in points}
        return Coordinates(
            {**self.points, **points},
            name or f"{self.name} extended",
            f"{self.source}; {', '.join(points)}: {source}",
            self.notes,
            kept,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, in the order of the table."""
        return tuple(self.points)

    def __contains__(self, label: object) -> bool:
        return label in self.points

    def __iter__(self) -> Iterator[str]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, label: str) -> Affect:
        """The point of a label; UnknownEmotionError with the nearest spelling otherwise."""
        if label not in self.points:
            raise UnknownEmotionError(label, self.points)
        return self.points[label]

    def get(self, label: str) -> Affect | None:
        """The point of a label; None if the table has no such label."""
        return self.points.get(label)

    def angle(self, label: str) -> float | None:
        """Degrees in [0, 360); None for a label at the centre, or one the table does not have."""
        point = self.get(label)
        return point.angle if point is not None and point.radius else None

    def covering(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(those of ``names`` that the table has, those that it lacks), in their order."""
        names = tuple(names)
        known = tuple(name for name in names if name in self)
        return known, tuple(name for name in names if name not in self)


def angle_of(emotion: str) -> float | None:
    """The angle in degrees of a label in the table "russell"; None if it has none."""
    return Coordinates.named("russell").angle(emotion)


@cache
def _built_in(name: str) -> Coordinates:
    return Coordinates.load(Path(__file__).parent / "tables" / f"{name}.json")


def _point(label: str, entry: Any) -> tuple[Affect, dict[str, Any]]:
    """(The point of an entry, what else it says)."""
    if isinstance(entry, Affect):
        return entry, {}
    more = dict(entry) if isinstance(entry, Mapping) else {}
    angle, point = more.pop("angle", None), more.pop("point", None if more else entry)
    try:
        if angle is not None:
            return Affect.at(_number(angle)), more
        valence, arousal = map(_number, point)
    except (TypeError, ValueError, OverflowError):
        raise EmokernelError(
            f'{label!r} needs finite numbers, [valence, arousal] or {{"angle": degrees}}, got'
            f" {entry!r}"
        ) from None
    try:
        return Affect(valence, arousal), more
    except EmokernelError:
        raise EmokernelError(
            f"{label!r} at ({valence}, {arousal}) lies outside the unit circle: divide all points"
            " of the table by its largest radius"
        ) from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
