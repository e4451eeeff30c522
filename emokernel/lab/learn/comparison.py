"""Which of two sets of vectors shows an emotion more at equal dose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emokernel.lab.learn.at_dose import at_dose, unsteered
from emokernel.lab.measure.classifiers import TextClassifier, emotion_probabilities
from emokernel.lab.measure.divergence import divergences
from emokernel.lab.measure.encoding import Encoded
from emokernel.lab.measure.fluency import distinct_n, exponential, surprises
from emokernel.lab.measure.generation import Job, Written, write
from emokernel.lab.measure.intervals import mean_interval
from emokernel.lab.measure.sampling import Sampling
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors


@dataclass(frozen=True)
class Measured:
    """The texts of one set of vectors at the dose that was asked for.

    ``divergence``: the dose that they really had, nats per token. ``probabilities``: the judge's,
    of each text. ``perplexity``: under the unsteered model. ``distinct``: share of distinct
    3-grams.
    """

    strength: float
    divergence: float
    probabilities: tuple[float, ...]
    perplexity: float
    distinct: float

    @property
    def probability(self) -> float:
        """The mean over texts."""
        return sum(self.probabilities) / len(self.probabilities)


@dataclass(frozen=True)
class Comparison:
    """What the same openings and random numbers gave under each set of vectors.

    ``gain``: (mean, low, high) of the second's probability less the first's, with its 95 % interval
    by bootstrap over openings.
    """

    emotion: str
    dose: float
    measured: Mapping[str, Measured]
    gain: tuple[float, float, float]

    def __str__(self) -> str:
        lines = [
            f"{name:>12}: probability of {self.emotion} {texts.probability:.3f}, divergence"
            f" {texts.divergence:.3f}, perplexity {texts.perplexity:.1f}, distinct 3-grams"
            f" {texts.distinct:.2f}"
            for name, texts in self.measured.items()
        ]
        gain, low, high = self.gain
        return "\n".join([*lines, f"{'gain':>12}: {gain:+.3f} ({low:+.3f} to {high:+.3f})"])


def compare(
    model: Any,
    tokenizer: Any,
    vectors: Mapping[str, EmotionVectors],
    emotion: str,
    *,
    judge: TextClassifier,
    openings: Sequence[str],
    dose: float = 0.4,
    seeds: int = 2,
    law: str = "add",
    sampling: Sampling | None = None,
) -> Comparison:
    """Two sets of ``vectors`` by name, each at the strength that diverges by ``dose``.

    The dose is the mean Kullback-Leibler divergence from the unsteered model, nats per token, over
    texts that it writes unsteered behind ``openings``. ``seeds`` texts are written behind each
    opening. Vectors with a calibration are steered by its profile of layers. The judge should be
    none that the vectors were made or calibrated with. The model must not be patched. ValueError
    unless there are two sets.
    """
    if len(vectors) != 2:
        raise ValueError(f"two sets of vectors can be compared, not {len(vectors)}")
    sampling = sampling or Sampling(24)
    texts: Encoded | None = None
    measured, groups = {}, []
    for name, each in vectors.items():
        steering = patch(model, each, law=law, dose="absolute")
        try:
            if texts is None:
                texts = unsteered(model, tokenizer, steering, openings, sampling)
            request = at_dose(model, steering, texts, [emotion], dose)[emotion]
            jobs = [Job(emotion, name, opening, request) for opening in openings]
            written = [
                each
                for seed in range(seeds)
                for batch in write(model, tokenizer, steering, jobs, seed, sampling=sampling)
                for each in batch
            ]
            divergence = divergences(model, steering, texts, [request]).item()
        finally:
            steering.unpatch()
        measured[name] = Measured(
            request.strength,
            divergence,
            _probabilities(judge, emotion, written),
            _perplexity(model, tokenizer, written),
            _distinct(written),
        )
        groups = [each.job.opening for each in written]
    first, second = measured.values()
    gains = np.subtract(second.probabilities, first.probabilities)
    return Comparison(emotion, dose, measured, mean_interval(gains, groups))


def _probabilities(
    judge: TextClassifier, emotion: str, written: Sequence[Written]
) -> tuple[float, ...]:
    read = judge.probabilities([each.text for each in written])
    return tuple(emotion_probabilities(judge, read, emotion).tolist())


def _perplexity(model: Any, tokenizer: Any, written: Sequence[Written]) -> float:
    """Of what was written; infinite for nothing at all."""
    surprise, tokens = surprises(model, tokenizer, [each.read for each in written])
    return exponential(float(surprise.sum() / tokens.sum())) if tokens.any() else math.inf


def _distinct(written: Sequence[Written]) -> float:
    """Distinct 3-grams; 0 for texts too short to have any."""
    try:
        return distinct_n([each.text for each in written])
    except ValueError:
        return 0.0
