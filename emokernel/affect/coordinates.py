"""`Coordinates`: where a table of labels puts emotions on the circumplex."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emokernel.affect.circumplex import Affect, is_number
from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.vectors.formats.json_files import unique

TABLES = ("russell", "glasgow")


@dataclass(frozen=True)
class Coordinates:
    """An immutable table: label -> point of the circumplex.

    ``points``: for each label an `Affect`, (valence, arousal), ``{"point": (valence, arousal)}`` or
    ``{"angle": degrees}`` on the unit circle; what else stands beside these goes to ``facts`` (for
    the built-in tables the term or the word that stands for a label, how well an angle is
    attested, ratings). ``source`` and ``notes`` say where the points come from.

    Raises EmokernelError for a table without labels, an empty label, or a point that is not finite
    or lies outside the unit circle.
    """

    points: Mapping[str, Affect]
    name: str = "own"
    source: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict, compare=False)

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

    def __reduce__(self) -> tuple[object, ...]:
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
        """A JSON file: ``{label: entry}``, or that as "labels" beside "name", "source" and "notes".

        Raises FileNotFoundError, or EmokernelError naming the file and the label.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file of label coordinates: {path}")
        try:
            content = json.loads(path.read_text("utf-8"), object_pairs_hook=unique)
            if not isinstance(content, dict):
                raise EmokernelError(
                    "it holds no JSON object; write {label: [valence, arousal], ...}"
                )
            whole = content if isinstance(content.get("labels"), dict) else {"labels": content}
            told: dict[str, Any] = {"name": path.stem, "source": str(path), "notes": [], **whole}
            name, source, notes = (told[key] for key in ("name", "source", "notes"))
            if not isinstance(notes, list) or not all(
                isinstance(text, str) for text in [name, source, *notes]
            ):
                raise EmokernelError("name and source must be texts, and notes a list of texts")
            return cls(told["labels"], name, source, tuple(notes))
        except EmokernelError as error:
            raise EmokernelError(f"{path}: {error}") from error
        # No UTF-8, no JSON, nested too deeply, or a number of thousands of digits.
        except (ValueError, RecursionError) as error:
            raise EmokernelError(f"{path} is no JSON in UTF-8: {error}") from error

    def __contains__(self, label: object) -> bool:
        return label in self.points

    def __iter__(self) -> Iterator[str]:
        return iter(self.points)

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


@cache
def _built_in(name: str) -> Coordinates:
    return Coordinates.load(Path(__file__).parent / "tables" / f"{name}.json")


def _point(label: str, entry: Any) -> tuple[Affect, dict[str, object]]:
    """(The point of an entry, what else it says)."""
    if isinstance(entry, Affect):
        return entry, {}
    more = dict(entry) if isinstance(entry, Mapping) else {}
    if more.keys() & {"ratings", "term"} and not more.keys() & {"angle", "point"}:
        raise EmokernelError(
            f"{label!r} has no point: of ratings compute [valence, arousal] (subtract the means,"
            " divide by the standard deviations, then all by the largest radius), of a term copy"
            ' its angle, and write {"point": [valence, arousal]} or {"angle": degrees}'
        )
    angle, point = more.pop("angle", None), more.pop("point", None if more else entry)
    try:
        if angle is not None:
            return Affect.at(_number(angle)), more
        valence, arousal = map(_number, point)
    except (TypeError, ValueError):
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
    if not is_number(value):
        raise ValueError(value)
    return float(value)
