"""Where on the circumplex a classifier places texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.measure.classifiers import LabelsOf, TextClassifier


def names_in(
    coordinates: Coordinates, labels: Sequence[str], labels_of: LabelsOf | None = None
) -> list[str]:
    """For each label the name whose point in the table it has: its own, if the table knows that.

    Otherwise the emotion that it counts for, where ``labels_of`` says so: {emotion: labels}.
    """
    emotion_of = {
        label.lower(): emotion
        for emotion, its in (labels_of or {}).items()
        for label in ([its] if isinstance(its, str) else its)
    }
    return [
        label if label in coordinates else emotion_of.get(label.lower(), label) for label in labels
    ]


def places(
    classifier: TextClassifier, coordinates: Coordinates, labels_of: LabelsOf | None = None
) -> list[str]:
    """`names_in` of a classifier's labels; EmokernelError if the table knows none of them."""
    names = names_in(coordinates, classifier.labels, labels_of)
    if not any(name in coordinates for name in names):
        raise EmokernelError(
            f"no label of the classifier {classifier.name!r} has a place in the table"
            f" {coordinates.name!r}: say which of its labels count for which emotion of the table,"
            " or choose another table"
        )
    return names


def affect_of(probabilities: Tensor, labels: Sequence[str], coordinates: Coordinates) -> Tensor:
    """(valence, arousal) ``[n, 2]`` of texts whose label probabilities are ``[n, labels]``.

    The mean of the labels' points in the table, weighted by their probabilities; a label that it
    lacks (in "russell" neutral, confusion and realization) counts as the centre.
    """
    places = [coordinates.get(label) or Affect(0.0, 0.0) for label in labels]
    points = torch.tensor([(place.valence, place.arousal) for place in places])
    return probabilities @ points
