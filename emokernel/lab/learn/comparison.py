"""Which of two sets of vectors shows an emotion more at equal dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from emokernel.lab.learn.at_dose import at_dose, unsteered
from emokernel.lab.measure.classifiers import TextClassifier, emotion_probabilities
from emokernel.lab.measure.divergence import divergences
from emokernel.lab.measure.encoding import Encoded
from emokernel.lab.measure.fluency import distinct_n, perplexity
from emokernel.lab.measure.generation import Job, write
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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
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
        read = judge.probabilities([each.text for each in written])
        measured[name] = Measured(
            request.strength,
            divergence,
            tuple(emotion_probabilities(judge, read, emotion).tolist()),
            perplexity(model, tokenizer, [each.read for each in written]),
            distinct_n([each.text for each in written]),
        )
        groups = [each.job.opening for each in written]
    first, second = measured.values()
    gains = np.subtract(second.probabilities, first.probabilities)
    return Comparison(emotion, dose, measured, mean_interval(gains, groups))
