"""Give each line the emotions that it shows by itself.

A subtitle torn out of its film, "Open the door!", is no longer the anger that XED's annotators saw
there, and a sentence cut out of a longer comment may not carry the comment's emotion. A classifier
fitted to the language half of GoEmotions, whose comments were labelled as they stand, decides for
those lines; of a whole comment it only withdraws labels that it finds far from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emokernel.demo.train.classifier import distributions, fit
from emokernel.demo.train.example import Example
from emokernel.lab.judges.linear_judge import CalibrationJudge, LinearNetwork

# The least probability at which a line without labels takes the most probable one. Neutral is
# what the classifier says of most lines that it knows nothing about.
_TAKEN, _TAKEN_NEUTRAL = 0.25, 0.5
# The least probability at which a comment keeps a label of its own.
_KEPT = 0.1


def relabel(
    lines: Sequence[Example], reference: Sequence[Example], labels: Sequence[str]
) -> list[Example]:
    """`lines` with the emotions that a classifier fitted to `reference` finds in their text.

    A line with emotions keeps those of at least `_KEPT` probability; one without takes the most
    probable label if it is probable enough, and stays without otherwise.
    """
    targets = distributions([example.emotions for example in reference], labels)
    model = LinearNetwork(len(labels), buckets=1 << 16, dropout=0.3)
    fit(model, [example.text for example in reference], targets)
    probabilities = CalibrationJudge([model], labels).probabilities([line.text for line in lines])

    def emotions(line: Example, row: Sequence[float]) -> tuple[str, ...]:
        if line.emotions:
            return tuple(name for name in line.emotions if row[labels.index(name)] >= _KEPT)
        best = max(range(len(labels)), key=row.__getitem__)
        least = _TAKEN_NEUTRAL if labels[best] == "neutral" else _TAKEN
        return (labels[best],) if row[best] >= least else ()

    return [
        replace(line, emotions=emotions(line, row))
        for line, row in zip(lines, probabilities.tolist(), strict=True)
    ]
