"""Consistency: how near the top labels of texts lie to the states that were asked for.

The experiment of arXiv 2504.14706, by the definitions of docs/evaluation.md. Nothing is dropped: a
text without a label (an empty answer, None) and a label without a direction (none in the table, or
at its centre) have cosine 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from emokernel.affect import TWELVE_STATES, Affect, Coordinates
from emokernel.extras import need
from emokernel.lab.evaluate.results import Consistency, Interval, JudgeAgreement, StateResult
from emokernel.lab.measure.classifiers import (
    LabelsOf,
    TextClassifier,
    columns_of,
    emotion_probabilities,
    knows,
    places,
)
from emokernel.lab.measure.intervals import mean_interval, percentiles

# The top label of each text, None for an empty answer.
Tops = Sequence[str | None]
# The point of each label, None for one that the table lacks.
Points = Mapping[str, Affect | None]

SHUFFLES = 2000


@dataclass(frozen=True)
class Reader:
    """A judge, the emotions that it has labels for, those that it has none for, and the point of
    each of its labels, None for one that the table lacks.
    """

    judge: TextClassifier
    emotions: tuple[str, ...]
    unknown: tuple[str, ...]
    labels_of: LabelsOf
    points: Points

    @classmethod
    def of(
        cls,
        judge: TextClassifier,
        emotions: Sequence[str],
        labels_of: LabelsOf,
        coordinates: Coordinates,
    ) -> Reader:
        """A reader of as many of ``emotions`` as the judge knows."""
        known = knows(judge, emotions, labels_of)
        unknown = tuple(emotion for emotion in emotions if emotion not in known)
        names = places(judge, coordinates, labels_of)
        points = dict(zip(judge.labels, map(coordinates.get, names), strict=True))
        return cls(judge, known, unknown, labels_of, points)

    @property
    def name(self) -> str:
        """Of the judge."""
        return self.judge.name

    def tops(self, probabilities: Tensor, answers: Sequence[str]) -> list[str | None]:
        """The most probable label of each text, from ``[n, labels]``; None where the answer is
        blank. That is what a model wrote; the text that was read may begin with an opening.
        """
        tops = zip(probabilities.argmax(1).tolist(), answers, strict=True)
        return [self.judge.labels[top] if answer.strip() else None for top, answer in tops]

    def intended(self, probabilities: Tensor) -> list[dict[str, float]]:
        """{emotion: probability} of each text, from ``[n, labels]``."""
        texts: list[dict[str, float]] = [{} for _ in range(len(probabilities))]
        for emotion in self.emotions:
            shown = emotion_probabilities(self.judge, probabilities, emotion, self.labels_of)
            for text, p in zip(texts, shown.tolist(), strict=True):
                text[emotion] = round(p, 5)
        return texts

    def named(self, emotion: str) -> frozenset[str]:
        """The labels that count for an emotion that the judge knows."""
        columns = columns_of(self.judge, emotion, self.labels_of)
        return frozenset(self.judge.labels[column] for column in columns)


def cosines(tops: Tops, state: Affect, points: Points) -> np.ndarray:
    """Cosine ``[n]`` between a state and the point of each text's top label, -1..1."""
    return unit(rows_of(tops, points)) @ direction(state)


def consistency(
    tops: Tops,
    requested: Sequence[int],
    openings: Sequence[object],
    points: Points,
    *,
    states: Sequence[Affect] = TWELVE_STATES,
    **others: Any,
) -> Consistency:
    """What the top labels of texts say about the states that were asked for.

    For each text its top label, the number of its state in ``states``, and its opening. Intervals
    are bootstraps over openings, with all states and seeds of an opening drawn together. Each of
    the `SHUFFLES` assigns the states to each other by a uniformly random permutation; p is the
    share that is at least as good, (1 + hits) / (1 + shuffles). ``placeless`` counts top labels
    without a point, ``empty`` the texts without a label. ``others``: the fields of `Consistency`
    that do not follow from this.

    ValueError unless there is a text for every state, and a state and an opening for every text.
    """
    numbers = np.asarray(requested)
    if not len(tops) == len(numbers) == len(openings) or set(requested) != set(range(len(states))):
        raise ValueError("every text needs a state and an opening, and every state a text")
    wheel = np.stack([direction(state) for state in states])
    rows = rows_of(tops, points)
    to_all = unit(rows) @ wheel.T
    values = to_all[np.arange(len(tops)), numbers]
    _, groups = np.unique([str(opening) for opening in openings], return_inverse=True)
    of_state = [np.flatnonzero(numbers == number) for number in range(len(states))]
    # Of the texts of a state, the summed cosine with every state: [asked for, compared with].
    sums = np.stack([to_all[chosen].sum(0) for chosen in of_state])
    columns = np.tile(np.arange(len(sums)), (SHUFFLES, 1))
    columns = np.random.default_rng(0).permuted(columns, axis=1)
    shuffled = sums[np.arange(len(sums)), columns].sum(1) / len(tops)
    means = [rows[chosen].mean(0) for chosen in of_state]
    labels = [top for top in tops if top is not None]
    return Consistency(
        cosine=Interval(*mean_interval(values, groups)),
        pooled=float((unit(means) * wheel).sum(1).mean()),
        floor=Interval(float(shuffled.mean()), *percentiles(shuffled)),
        # A shuffle that is as good, but for rounding, is a hit.
        p=float((1 + (shuffled >= values.mean() - 1e-12).sum()) / (1 + SHUFFLES)),
        placeless=sum(points[label] is None for label in labels) / len(tops),
        empty=1 - len(labels) / len(tops),
        texts=len(tops),
        states=[
            StateResult(
                state.angle,
                Interval(*mean_interval(values[chosen], groups[chosen])),
                tuple(mean.tolist()),
                # Most frequent first, equally frequent ones by name.
                dict(Counter(sorted(top for row in chosen if (top := tops[row]))).most_common()),
            )
            for state, chosen, mean in zip(states, of_state, means, strict=True)
        ],
        **others,
    )


def rows_of(tops: Tops, points: Points) -> np.ndarray:
    """(valence, arousal) ``[n, 2]`` of top labels; (0, 0) where there is no label or no point."""
    places = (None if top is None else points[top] for top in tops)
    rows = [(point.valence, point.arousal) if point else (0.0, 0.0) for point in places]
    return np.array(rows).reshape(-1, 2)


def unit(rows: Any) -> np.ndarray:
    """Rows ``[n, d]`` divided by their lengths; those at the centre stay there."""
    rows = np.asarray(rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # A mean of points that cancel each other is the centre, but for rounding.
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)


def direction(state: Affect) -> np.ndarray:
    """The unit vector ``[2]`` of a state; 0 for the centre."""
    return unit([[state.valence, state.arousal]])[0]


def agreement(
    judges: tuple[str, str],
    tops: Sequence[Tops],
    cosines: Sequence[Sequence[float]],
    points: Sequence[Points],
) -> JudgeAgreement:
    """What two judges make of the same texts: their top labels, cosines and points of labels.

    ``equal`` is of all texts; a judge that has not got the other's label can never agree on it.
    ``kappa`` (Cohen 1960) is of the texts on which both judges chose a label that both have, so
    that it compares judgements and not vocabularies. Empty answers (None) are in neither.
    NaN for what is not defined: without a text that counts, for kappa where all labels are the
    same, for the correlation where one judge's cosines are. ValueError unless all are of as many
    texts.
    """
    first, second = tops
    if len({len(each) for each in (*tops, *cosines)}) > 1:
        raise ValueError("two judges can be compared on the same texts only")
    written = [(a, b) for a, b in zip(first, second, strict=True) if None not in (a, b)]
    shared = points[0].keys() & points[1].keys()
    rows = [unit(rows_of(top, table)) for top, table in zip(tops, points, strict=True)]
    placed = rows[0].any(1) & rows[1].any(1)
    # Cosine of an angle of less than 45 degrees.
    near = (rows[0] * rows[1]).sum(1)[placed] > math.cos(math.pi / 4)
    return JudgeAgreement(
        judges=judges,
        texts=len(first),
        equal=sum(a == b for a, b in written) / len(written) if written else math.nan,
        kappa=_kappa([pair for pair in written if shared.issuperset(pair)]),
        cosine_correlation=_correlation(*cosines),
        within_45=float(near.mean()) if len(near) else math.nan,
    )


def _kappa(pairs: Sequence[tuple[str, str]]) -> float:
    if len({label for pair in pairs for label in pair}) < 2:
        return math.nan
    return float(need("sklearn.metrics").cohen_kappa_score(*zip(*pairs, strict=True)))


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(need("scipy.stats").pearsonr(first, second).statistic)
