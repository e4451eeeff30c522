"""What a report is made of, as plain data: the same for every form in which it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emokernel.lab.report.plots import Chart


@dataclass(frozen=True)
class Text:
    """A paragraph; ``look``: "lead", "note", "muted" or none."""

    kind: ClassVar[str] = "text"
    text: str
    look: str = ""


@dataclass(frozen=True)
class Facts:
    """A titled list of (term, what is said of it, address or "")."""

    kind: ClassVar[str] = "facts"
    title: str
    rows: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of a row names it. ``words``: the other columns that hold text;
    ``totalled``: whether the last row sums up the others."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()
    totalled: bool = False


@dataclass(frozen=True)
class Goals(Table):
    """The table of goals: name, found, asked for, and whether it holds."""

    kind: ClassVar[str] = "goals"


@dataclass(frozen=True)
class SampleGroup:
    """The answers to ``title``, an opening. ``alone``: (condition, text) of those that were not
    asked for in one of ``ways``; rows: an emotion with its text by each way, None for none."""

    kind: ClassVar[str] = "samples"
    title: str
    seed: int
    alone: Sequence[tuple[str, str]]
    ways: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str | None]]]


Part = Text | Facts | Table | SampleGroup | Chart


@dataclass(frozen=True)
class Section:
    """``key``: its address in a page."""

    key: str
    title: str
    parts: Sequence[Part]
