"""Measuring doses: texts written under them, read by the judge and by the unsteered model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.calibrate.choose import Point
from emokernel.lab.measure.classifiers import LabelsOf, TextClassifier, emotion_probabilities
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import Ask
from emokernel.lab.measure.fluency import distinct_n, exponential, surprises
from emokernel.lab.measure.generation import Job, Written, write
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.places import affect_of, places
from emokernel.lab.measure.sampling import Sampling
from emokernel.steering import Steering

# The same for all texts, steered or not, so that they differ by their dose alone.
_SEED = 0
_POINTS_AT_ONCE = 12


@dataclass(frozen=True)
class Setting:
    """What is written and who reads it; the same for every dose.

    prompts: (prefix, opening) of each text, see `Job`; ``special_tokens``: whether the tokenizer
    adds its own to them. labels: {emotion: the judge's labels} where they are called otherwise.
    batch_size: texts that are written at once.
    """

    model: Any
    tokenizer: Any
    judge: TextClassifier
    prompts: Sequence[tuple[str, str]]
    sampling: Sampling
    special_tokens: bool
    coordinates: Coordinates
    labels: LabelsOf
    batch_size: int = 240

    def places(self) -> list[str]:
        """For each label of the judge, the emotion whose place on the circumplex it has.

        EmokernelError if the table knows none of them.
        """
        return places(self.judge, self.coordinates, self.labels)


@dataclass(frozen=True)
class Unsteered:
    """The texts of the unsteered model: label probabilities ``[n, labels]``, nats per token,
    distinct 3-grams.
    """

    written: Sequence[Written]
    probabilities: Tensor
    surprise: float
    distinct: float

    def effect(self, setting: Setting, ask: Ask) -> float:
        """What a point measures, without steering."""
        return _effect(setting, ask, self.probabilities)

    def texts(self, setting: Setting, count: int) -> Encoded:
        """``count`` of them, as the divergence of a dose is measured on."""
        pairs = [one.read for one in self.written if one.pair[1]]
        return encoded(setting.tokenizer, pairs[:count], special_tokens=setting.special_tokens)


def unsteered(setting: Setting, steering: Steering) -> Unsteered:
    """Write and measure the texts that all others are compared with."""
    jobs = [Job("", "unsteered", opening, prefix=prefix) for prefix, opening in setting.prompts]
    texts = _written(setting, steering, jobs)
    surprise, distinct = _surprise(setting, texts), _distinct(texts)
    if not (math.isfinite(surprise) and distinct):
        raise EmokernelError(
            "the unsteered model writes next to nothing behind these prompts, not three words in a"
            " row: let it write more (--max-new-tokens), or give other prompts (--queries)"
        )
    probabilities = setting.judge.probabilities([one.text for one in texts])
    return Unsteered(texts, probabilities, surprise, distinct)


def points(
    setting: Setting,
    steering: Steering,
    plain: Unsteered,
    doses: Mapping[Ask, Mapping[float, float]],
    journal: Journal,
    step: str,
) -> Iterator[tuple[Ask, Point]]:
    """Measure {ask: {divergence: strength}}, but what the journal knows of ``step`` already."""
    wanted = [
        (ask, kl, strength)
        for ask, strengths in doses.items()
        for kl, strength in strengths.items()
    ]
    for start in range(0, len(wanted), _POINTS_AT_ONCE):
        chunk = wanted[start : start + _POINTS_AT_ONCE]
        keys = [f"{step} | {ask.name} | {ask.law} {ask.dose} | {kl:g}" for ask, kl, _ in chunk]
        if any(journal.get(key) is None for key in keys):
            measured = _measure(setting, steering, plain, chunk)
            journal.put({k: asdict(point) for k, point in zip(keys, measured, strict=True)})
        for (ask, _, _), key in zip(chunk, keys, strict=True):
            yield ask, Point(**journal.get(key))


def _measure(
    setting: Setting,
    steering: Steering,
    plain: Unsteered,
    chunk: Sequence[tuple[Ask, float, float]],
) -> list[Point]:
    jobs = [
        Job(str(number), ask.name, opening, ask.at(strength), prefix)
        for number, (ask, _, strength) in enumerate(chunk)
        for prefix, opening in setting.prompts
    ]
    written = _written(setting, steering, jobs)
    size = len(setting.prompts)
    measured = []
    for number, (ask, divergence, strength) in enumerate(chunk):
        texts = written[number * size : (number + 1) * size]
        probabilities = setting.judge.probabilities([one.text for one in texts])
        measured.append(
            Point(
                strength,
                divergence,
                _effect(setting, ask, probabilities),
                exponential(_surprise(setting, texts) - plain.surprise),
                _distinct(texts) / plain.distinct,
            )
        )
    return measured


def _written(setting: Setting, steering: Steering, jobs: Sequence[Job]) -> list[Written]:
    batches = write(
        setting.model, setting.tokenizer, steering, jobs, _SEED, sampling=setting.sampling,
        special_tokens=setting.special_tokens, batch_size=setting.batch_size,
    )  # fmt: skip
    return [one for batch in batches for one in batch]


def _effect(setting: Setting, ask: Ask, probabilities: Tensor) -> float:
    """Mean probability of the emotion's labels, or mean affect along the state's direction."""
    if isinstance(ask.emotion, Affect):
        affect = affect_of(probabilities, setting.places(), setting.coordinates).mean(0)
        direction = torch.tensor([ask.emotion.valence, ask.emotion.arousal]) / ask.emotion.radius
        return float(affect @ direction)
    shown = emotion_probabilities(setting.judge, probabilities, ask.name, setting.labels)
    return float(shown.mean())


def _surprise(setting: Setting, texts: Iterable[Written]) -> float:
    """Nats per token of what was written, under the unsteered model."""
    pairs = [one.read for one in texts]
    surprise, tokens = surprises(
        setting.model, setting.tokenizer, pairs, special_tokens=setting.special_tokens
    )
    # A model that writes nothing at all is as surprising as can be.
    return float(surprise.sum() / tokens.sum()) if tokens.any() else math.inf


def _distinct(texts: Sequence[Written]) -> float:
    """Distinct 3-grams of what was written; 0 for texts too short to have any."""
    return distinct_n([one.pair[1] for one in texts])
