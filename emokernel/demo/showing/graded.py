"""One emotion from nothing to full strength: a text at each strength, and what the judge hears."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emokernel.lab.evaluate.plan import EMOTIONS, STRENGTH
from emokernel.lab.evaluate.results import UNSTEERED, Interval
from emokernel.lab.report.view import View


@dataclass(frozen=True)
class Step:
    """``probability``: of the emotion in ``text``; ``mean``: over all texts at this strength."""

    strength: float
    text: str
    probability: float
    mean: Interval


@dataclass(frozen=True)
class Graded:
    """An emotion at rising strengths, behind one query under one seed."""

    emotion: str
    query: str
    texts: int
    steps: tuple[Step, ...]


def graded(view: View, generations: Path) -> Graded:
    """The emotion that was written at most strengths, with its texts in the file of an evaluation.

    They are those of the first sample's query, under seed 0.
    """
    emotion = max(view.emotions, key=lambda name: len(view.curve(name, view.law)))
    query, curve = view.results.samples[0].opening, view.curve(emotion, view.law)
    found = dict(_texts(generations, emotion, query, view))
    steps = (
        Step(point.strength, *found[point.strength], view.intended(point))
        for point in curve
        if 0 <= point.strength <= 1
    )
    return Graded(emotion, query, curve[-1].measures.texts, tuple(steps))


def _texts(
    generations: Path, emotion: str, query: str, view: View
) -> Iterator[tuple[float, tuple[str, float]]]:
    """(strength, (text, probability of the emotion)) of what was written under the view's law."""
    behind = {"query": query, "seed": 0}
    steered = {"experiment": EMOTIONS, "name": emotion, "by": STRENGTH, "law": view.law}
    for line in generations.read_text("utf-8").strip("\n").split("\n"):
        record = json.loads(line).get("value")
        if not isinstance(record, Mapping) or not behind.items() <= record.items():
            continue
        text = record["opening"] + record["answer"]
        if record["mode"] == UNSTEERED:
            yield 0.0, (text, record["intended"][view.judge][emotion])
        elif steered.items() <= record.items():
            yield record["strength"], (text, record["intended"][view.judge])
