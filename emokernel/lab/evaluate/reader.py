"""A judge as the evaluation has it: which emotions it knows, and where its labels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emokernel.affect import Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.evaluate.consistency import Points, points_of
from emokernel.lab.measure.classifiers import (
    LabelsOf,
    TextClassifier,
    columns_of,
    emotion_probabilities,
)


@dataclass(frozen=True)
class Reader:
    """A judge, the emotions that it has labels for, those that it has none for, and the point of
    each of its labels.
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
        known, unknown = [], []
        for emotion in emotions:
            try:
                columns_of(judge, emotion, labels_of)
            except EmokernelError:
                unknown.append(emotion)
            else:
                known.append(emotion)
        points = points_of(judge, coordinates, labels_of)
        return cls(judge, tuple(known), tuple(unknown), labels_of, points)

    @property
    def name(self) -> str:
        """Of the judge."""
        return self.judge.name

    def intended(self, probabilities: Tensor) -> list[dict[str, float]]:
        """{emotion: probability} of each text, from ``[n, labels]``."""
        texts: list[dict[str, float]] = [{} for _ in range(len(probabilities))]
        for emotion in self.emotions:
            shown = emotion_probabilities(self.judge, probabilities, emotion, self.labels_of)
            for text, p in zip(texts, shown.tolist(), strict=True):
                text[emotion] = round(p, 5)
        return texts
