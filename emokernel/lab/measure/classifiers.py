"""What a classifier that reads emotion from text has to offer, and how its labels are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor, nn

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.vectors import EmotionVectors

# Which of a classifier's labels count for an emotion, where their names differ.
LabelsOf = Mapping[str, str | Sequence[str]]


class TextClassifier(Protocol):
    """What reads emotion from text.

    ``labels`` are lower-case and distinct. With ``multi_label`` their probabilities are
    independent of each other, otherwise those of a text sum to 1.
    """

    name: str
    labels: tuple[str, ...]
    multi_label: bool

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Probability of each label for each text, fp32 [n, labels] on the CPU."""
        ...

    def digest(self) -> str:
        """What only classifiers with the same weights have in common."""
        ...


def weights_digest(modules: Iterable[nn.Module]) -> str:
    """sha256 over the names, dtypes, shapes and bits of all parameters and buffers that are saved.

    It does not depend on where the weights were loaded from or on which device they are.
    """
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
            bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(bits.numpy().tobytes())
    return digest.hexdigest()


def columns_of(
    classifier: TextClassifier, emotion: str, labels_of: LabelsOf | None = None
) -> tuple[int, ...]:
    """The columns of ``classifier.probabilities`` that count for an emotion.

    Those of the labels that ``labels_of`` gives it, or else the one of the same name. Raises
    EmokernelError if the classifier has no such label.
    """
    wanted = (labels_of or {}).get(emotion, emotion)
    columns = []
    for label in (wanted,) if isinstance(wanted, str) else wanted:
        if label.lower() not in classifier.labels:
            raise EmokernelError(
                f"{UnknownEmotionError(label, classifier.labels)} These are the labels of the"
                f" classifier {classifier.name!r}: say which of them count for {emotion!r}, as in"
                f" {{{emotion!r}: {classifier.labels[0]!r}}}, or use another classifier."
            )
        columns.append(classifier.labels.index(label.lower()))
    if not columns or len(set(columns)) < len(columns):
        raise EmokernelError(f"{emotion!r} needs one or more distinct labels, got {wanted!r}")
    return tuple(columns)


def check_named(labels_of: LabelsOf, emotions: Sequence[str]) -> None:
    """UnknownEmotionError for labels of what is none of the emotions."""
    unknown = set(labels_of) - set(emotions)
    if unknown:
        raise UnknownEmotionError(min(unknown), emotions)


def check_labels(classifier: TextClassifier, emotions: Sequence[str], labels_of: LabelsOf) -> None:
    """EmokernelError for an emotion that the classifier lacks, and labels of one that is none."""
    check_named(labels_of, emotions)
    for emotion in emotions:
        columns_of(classifier, emotion, labels_of)


def knows(
    classifier: TextClassifier, emotions: Sequence[str], labels_of: LabelsOf
) -> tuple[str, ...]:
    """Those of ``emotions`` that the classifier has a label for."""
    found = []
    for emotion in emotions:
        with suppress(EmokernelError):
            columns_of(classifier, emotion, labels_of)
            found.append(emotion)
    return tuple(found)


def emotion_probabilities(
    classifier: TextClassifier,
    probabilities: Tensor,
    emotion: str,
    labels_of: LabelsOf | None = None,
) -> Tensor:
    """Probability [n] that each text shows an emotion, from ``probabilities`` [n, labels].

    Where several labels count for it: that one of them holds, their sum, or with ``multi_label``
    one less the product of their complements.
    """
    chosen = probabilities[:, columns_of(classifier, emotion, labels_of)]
    return 1 - (1 - chosen).prod(1) if classifier.multi_label else chosen.sum(1)


def same_classifier(one: TextClassifier, other: TextClassifier) -> bool:
    """Whether two classifiers are one: by name, in whatever revision, or by their weights.

    What was calibrated with a classifier cannot be evaluated with the same one: it would find what
    it was asked for.
    """
    return one is other or one.name == other.name or one.digest() == other.digest()


def has_calibrated(classifier: TextClassifier, vectors: EmotionVectors) -> bool:
    """Whether the strengths of the vectors were chosen with the classifier."""
    if vectors.calibration is None:
        return False
    record = vectors.calibration.record
    by_name = classifier.name == record.get("judge")
    return by_name or classifier.digest() == record.get("judge_digest")


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
