"""Answers to one opening, laid out so that the ways of asking for an emotion stand together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emokernel.lab.evaluate.results import Sample
from emokernel.lab.report.figures import MISSING
from emokernel.lab.report.tables import Table
from emokernel.lab.report.view import MODES, NAMES

_LONGEST_TEXT, _EMPTY = 1200, "(empty)"
_WAYS = tuple(NAMES[mode] for mode in MODES)


@dataclass(frozen=True)
class SampleGroup:
    """The answers to ``title``, an opening. ``alone``: (condition, text) of those that were not
    asked for in one of ``ways``; rows: an emotion with its text by each way, None for none."""

    title: str
    seed: int
    alone: Sequence[tuple[str, str]]
    ways: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str | None]]]


def group(sample: Sample) -> SampleGroup:
    """A sample by emotion: "joy, by vector" is the way "by vector" of joy."""
    alone, found = [], {}
    for condition, text in sample.texts.items():
        emotion, comma, way = condition.rpartition(", ")
        if comma and way in _WAYS:
            found.setdefault(emotion, {})[way] = _shown(text)
        else:
            alone.append((condition, _shown(text)))
    ways = [way for way in _WAYS if any(way in of for of in found.values())]
    rows = [(emotion, [of.get(way) for way in ways]) for emotion, of in found.items()]
    return SampleGroup(cut(sample.opening), sample.seed, alone, ways, rows)


def table(found: SampleGroup) -> Table:
    """The emotions of a group, without what stands alone."""
    return Table(
        f"{found.title} (seed {found.seed})",
        ["Emotion", *(way.capitalize() for way in found.ways)],
        [[emotion, *(text or MISSING for text in of)] for emotion, of in found.rows],
        tuple(range(1, len(found.ways) + 1)),
    )


def cut(text: str) -> str:
    """A text of bearable length."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT].rstrip()} […]"


def _shown(text: str) -> str:
    return cut(text) if text.strip() else _EMPTY
