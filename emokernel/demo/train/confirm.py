"""Keep an emotion of a subtitle line only where the line itself shows it.

XED's annotators saw lines in their film; torn out of it, "Open the door!" is no longer anger. A
classifier trained on the language half of GoEmotions, whose comments were labelled as they stand,
confirms or withdraws XED's emotions. Withdrawn lines stay in the corpus without emotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .classifier import LinearClassifier, distributions, fit

if TYPE_CHECKING:
    from .corpus import Example

# The GoEmotions labels that speak for each of XED's, whose classes are wider.
_WITNESSES = {
    "anger": ("anger", "annoyance", "disapproval"),
    "disgust": ("disgust",),
    "fear": ("fear", "nervousness"),
    "joy": ("joy", "amusement", "excitement", "gratitude", "love", "optimism", "admiration",
            "relief"),
    "sadness": ("sadness", "disappointment", "grief", "remorse"),
    "surprise": ("surprise", "realization", "confusion"),
    "neutral": ("neutral",),
}  # fmt: skip


def confirm_emotions(
    lines: Sequence[Example], reference: Sequence[Example], labels: Sequence[str]
) -> list[Example]:
    """`lines`, keeping an emotion where it is more probable than it is on average.

    The probability is that of a classifier fitted to `reference`, summed over the labels that
    speak for the emotion; the average is their share in `reference`.
    """
    targets = distributions([example.emotions for example in reference], labels)
    model = LinearClassifier(len(labels), buckets=1 << 16)
    fit(model, [example.text for example in reference], targets)
    probabilities = model.probabilities(model.features([line.text for line in lines]))
    share = targets.mean(0)

    def confirmed(row: int, emotion: str) -> bool:
        columns = [labels.index(name) for name in _WITNESSES[emotion]]
        return bool(probabilities[row, columns].sum() > share[columns].sum())

    return [
        replace(line, emotions=tuple(name for name in line.emotions if confirmed(row, name)))
        for row, line in enumerate(lines)
    ]
