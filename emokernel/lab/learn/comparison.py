"""Requests of equal dose, which is divergence from the unsteered model in nats per token, and which
of two sets of vectors shows an emotion more at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from emokernel.errors import SteeringError
from emokernel.lab.measure.classifiers import TextClassifier, emotion_probabilities
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import Ask, divergences, equal_doses
from emokernel.lab.measure.fluency import distinct_n, perplexity
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.intervals import mean_interval
from emokernel.lab.measure.sampling import Sampling
from emokernel.requests import Request
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors

# Unsteered ones, behind as many openings, that a dose is measured on.
_TEXTS = 24
# Strengths around the one that a coarse ladder gives, between which it is looked for again.
_AROUND = np.geomspace(0.75, 1.3, 7)


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
    tokenizer: Tokenizer,
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
                texts = _unsteered(model, tokenizer, steering, openings, sampling)
            request = _at_dose(model, steering, texts, [emotion], dose)[emotion]
            jobs = [Job(opening, request) for opening in openings]
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


def requests_at_dose(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    steering: Steering,
    emotions: Iterable[str],
    openings: Sequence[str],
    dose: float,
    *,
    sampling: Sampling | None = None,
) -> dict[str, Request]:
    """For each emotion the request that diverges by ``dose``, under the law chosen at `patch`.

    Measured over texts that the model writes unsteered behind the first 24 ``openings``.
    SteeringError if no strength reaches the dose, EmokernelError for a dose that is not above 0.
    """
    texts = _unsteered(model, tokenizer, steering, openings, sampling or Sampling(24))
    return _at_dose(model, steering, texts, emotions, dose)


def _unsteered(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    steering: Steering,
    openings: Sequence[str],
    sampling: Sampling,
) -> Encoded:
    jobs = [Job(opening) for opening in openings[:_TEXTS]]
    batches = write(model, tokenizer, steering, jobs, 0, sampling=sampling)
    pairs = [written.pair for batch in batches for written in batch]
    return encoded(tokenizer, [pair for pair in pairs if pair[1].strip()])


def _at_dose(
    model: PreTrainedModel, steering: Steering, texts: Encoded, emotions: Iterable[str], dose: float
) -> dict[str, Request]:
    """As `requests_at_dose`, over ``texts``.

    Between the rungs of a ladder, and again between finer ones around what that gives.
    """
    chosen = steering.defaults
    asks = [Ask(name, name, chosen.law, chosen.dose) for name in emotions]
    doses = equal_doses(model, steering, texts, asks, [dose])
    for ask in asks:
        if dose not in doses[ask]:
            raise SteeringError(
                f"no strength of {ask.name!r} under law={ask.law!r} diverges by {dose} nats per"
                f" token, {max(doses[ask]):.2f} at most: ask for a smaller dose"
            )
    requests = {}
    for ask in asks:
        rungs = doses[ask][dose] * _AROUND
        made = divergences(model, steering, texts, [ask.at(rung) for rung in rungs])
        requests[ask.name] = ask.at(_strength(ask, dose, made.numpy(), rungs))
    return requests


def _strength(ask: Ask, dose: float, divergences: np.ndarray, rungs: np.ndarray) -> float:
    """The strength of ``dose``, log-log linear between rungs; SteeringError if they have none."""
    sound = np.isfinite(divergences) & (divergences > 0)
    if not sound.any():
        raise SteeringError(
            f"{ask.name!r} diverges by {list(divergences)} nats per token around the strength for"
            f" {dose}: ask for a larger dose, or load the model in a wider dtype"
        )
    logs = np.maximum.accumulate(np.log(divergences[sound]))
    return math.exp(np.interp(math.log(dose), logs, np.log(rungs[sound])))
