"""The ceiling of consistency: what it comes to on text by humans, through the same judge.

For each state the texts of the label that is nearest to it by angle stand in for the answers of a
model. All that is needed of them is how often the judge reads which label, so the judges of
the package ship with those counts instead of texts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.consistency import direction, rows_of, unit
from emokernel.lab.evaluate.results import Ceiling, CeilingState, Interval
from emokernel.lab.judges import SHIPPED
from emokernel.lab.measure.classifiers import LabelsOf, TextClassifier, names_in
from emokernel.lab.measure.intervals import percentiles

# {label that humans gave: {top label of the judge: texts}}
Confusion = Mapping[str, Mapping[str, int]]

_DRAWS = 2000


def confusion(
    classifier: TextClassifier, texts: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How often the classifier's top label of texts with each label is which."""
    counts: dict[str, Counter[str]] = {}
    tops = classifier.probabilities(texts).argmax(1).tolist()
    for label, top in zip(labels, tops, strict=True):
        counts.setdefault(label, Counter())[classifier.labels[top]] += 1
    return {
        label: {top: counts[label][top] for top in sorted(counts[label])}
        for label in sorted(counts)
    }


def shipped(classifier: TextClassifier) -> Confusion | None:
    """The counts that a judge of the package ships with: GoEmotions test, texts with one label.

    None for any other classifier.
    """
    if classifier.name not in SHIPPED:
        return None
    return json.loads((classifier.folder / "judge.json").read_text("utf-8"))["confusion"]


def ceiling(
    counts: Confusion,
    coordinates: Coordinates,
    *,
    judge: str,
    source: str,
    states: Sequence[Affect] = TWELVE_STATES,
    labels_of: LabelsOf | None = None,
    least: int = 1,
) -> Ceiling | None:
    """The consistency of labelled text, from `confusion`; None if no label has ``least`` texts.

    The mean over states of the mean over the texts of the nearest label, which may be the nearest
    of several states. Of labels that are equally near it is the one with the higher cosine, lest
    the bound be too low. A label counts if it has a direction in the table and at least ``least``
    texts. The interval is a bootstrap over the texts of each label (multinomial draws from its
    counts). ``labels_of`` as in `emokernel.lab.measure.classifiers.names_in`.

    EmokernelError if no label has a direction.
    """
    labels = {*counts, *(top for row in counts.values() for top in row)}
    names = names_in(coordinates, sorted(labels), labels_of)
    points = {label: coordinates.get(n) for label, n in zip(sorted(labels), names, strict=True)}
    texts = {label: sum(row.values()) for label, row in counts.items()}
    placed = [label for label in counts if points[label] and points[label].radius]
    if not placed:
        raise EmokernelError(
            f"{source}: none of the labels {', '.join(sorted(counts)) or '(none)'} has a direction"
            f" in the table {coordinates.name!r}: give text with labels of the table"
        )
    taken = [label for label in sorted(placed) if texts[label] >= max(1, least)]
    if not taken:
        return None
    wheel = np.stack([direction(state) for state in states])
    random = np.random.default_rng(0)
    means, cosines = {}, {}
    for label in taken:
        rows, own = rows_of(list(counts[label]), points), np.array(list(counts[label].values()))
        # The texts as they are in the first row, the draws in the others.
        drawn = random.multinomial(own.sum(), own / own.sum(), _DRAWS)
        shares = np.vstack([own, drawn]) / own.sum()
        means[label], cosines[label] = shares[0] @ rows, shares @ unit(rows) @ wheel.T

    def key(label: str, number: int) -> tuple[float, float]:
        turn = abs(points[label].angle - states[number].angle)
        return round(min(turn, 360 - turn), 6), -cosines[label][0, number]

    numbers = range(len(states))
    nearest = [min(taken, key=lambda label, n=n: key(label, n)) for n in numbers]
    values = np.stack([cosines[nearest[n]][:, n] for n in numbers], axis=1)
    return Ceiling(
        judge=judge,
        source=source,
        least=least,
        cosine=Interval(float(values[0].mean()), *percentiles(values[1:].mean(1))),
        pooled=float((unit([means[label] for label in nearest]) * wheel).sum(1).mean()),
        states=[
            CeilingState(state.angle, label, texts[label], float(value))
            for state, label, value in zip(states, nearest, values[0], strict=True)
        ],
    )
