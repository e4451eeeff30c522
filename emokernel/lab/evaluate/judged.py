"""Emotion by emotion, what two judges find in the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from emokernel.extras import need
from emokernel.lab.evaluate.consistency import Reader
from emokernel.lab.evaluate.results import JudgedEmotion
from emokernel.lab.evaluate.writing import Record
from emokernel.lab.measure.intervals import rank_correlation


def intended(record: Record, reader: Reader, emotion: str) -> float:
    """The probability of an emotion in a text, as a judge read it."""
    values = record["intended"][reader.name]
    return values[emotion] if isinstance(values, dict) else values


def judged(
    plain: Sequence[Record], steered: Mapping[str, Sequence[Record]], readers: Sequence[Reader]
) -> list[JudgedEmotion]:
    """``plain``: unsteered texts; ``steered``: {emotion: its texts}; none without two judges.

    An emotion that one of the judges does not know is left out.
    """
    found = []
    for emotion, records in steered.items():
        knowing = [reader for reader in readers if emotion in reader.emotions]
        if len(knowing) == 2:
            before, after = (
                {each.name: [intended(r, each, emotion) for r in of] for each in knowing}
                for of in (plain, records)
            )
            found.append(
                JudgedEmotion(
                    emotion,
                    {name: mean(values) for name, values in before.items()},
                    {name: mean(values) for name, values in after.items()},
                    {name: separation(values, before[name]) for name, values in after.items()},
                    rank_correlation(*after.values()),
                )
            )
    return found


def separation(more: Sequence[float], less: Sequence[float]) -> float:
    """The probability that one of ``more`` is above one of ``less``; a tie counts one half."""
    truth = [1] * len(more) + [0] * len(less)
    return float(need("sklearn.metrics").roc_auc_score(truth, [*more, *less]))
