"""Emotion by emotion, what two judges find in the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from emokernel.extras import need
from emokernel.lab.evaluate.results import JudgedEmotion
from emokernel.lab.measure.intervals import rank_correlation


def judged(
    emotion: str,
    unsteered: Mapping[str, Sequence[float]],
    steered: Mapping[str, Sequence[float]],
) -> JudgedEmotion:
    """``unsteered``, ``steered``: {judge: its probability of the emotion in each text}, two judges.

    All judges have read the same texts, in the same order. ValueError for fewer than two of them.
    """
    one, other = steered.values()
    return JudgedEmotion(
        emotion,
        {judge: mean(values) for judge, values in unsteered.items()},
        {judge: mean(values) for judge, values in steered.items()},
        {judge: separation(values, unsteered[judge]) for judge, values in steered.items()},
        rank_correlation(one, other),
    )


def separation(more: Sequence[float], less: Sequence[float]) -> float:
    """The probability that one of ``more`` is above one of ``less``; a tie counts one half."""
    truth = [1] * len(more) + [0] * len(less)
    return float(need("sklearn.metrics").roc_auc_score(truth, [*more, *less]))
