"""What was asked and measured, and the samples."""

from __future__ import annotations

from emokernel.lab.evaluate.results import Sample
from emokernel.lab.report.parts import Goals, SampleGroup
from emokernel.lab.report.view import MODES, NAMES, View

_HELD: dict[bool | None, str] = {True: "reached", False: "not reached", None: "not measured"}
_WAYS = tuple(NAMES[mode] for mode in MODES)
_LONGEST_TEXT, _EMPTY = 1200, "(empty)"


def goals(view: View) -> Goals:
    """What the evaluation was asked to show, and what was measured."""
    return Goals(
        "Asked and measured",
        ["What", "Measured", "Asked", "Reached"],
        [
            [
                goal.name,
                "; ".join(filter(None, (goal.value, goal.doubt))),
                goal.bound,
                _HELD[goal.holds],
            ]
            for goal in view.results.goals
        ],
        (1, 2, 3),
    )


def samples(sample: Sample) -> SampleGroup:
    """A sample by emotion: "joy, by vector" is the way "by vector" of joy."""
    alone: list[tuple[str, str]] = []
    texts: dict[str, dict[str, str]] = {}
    for condition, text in sample.texts.items():
        emotion, _, way = condition.rpartition(", ")
        if emotion and way in _WAYS:
            texts.setdefault(emotion, {})[way] = _shown(text)
        else:
            alone.append((condition, _shown(text)))
    ways = [way for way in _WAYS if any(way in own for own in texts.values())]
    rows = [(emotion, [own.get(way) for way in ways]) for emotion, own in texts.items()]
    return SampleGroup(_cut(sample.opening), sample.seed, alone, ways, rows)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT].rstrip()} […]"


def _shown(text: str) -> str:
    return _cut(text) if text.strip() else _EMPTY
