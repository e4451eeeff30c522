"""Measuring doses: texts written behind prompts, read by the judge and by the unsteered model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from emokernel.affect import Affect, Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.calibrate.choose import Point
from emokernel.lab.extract.prompts import question
from emokernel.lab.extract.queries import Queries, pairs
from emokernel.lab.measure.classifiers import (
    LabelsOf,
    TextClassifier,
    affect_of,
    emotion_probabilities,
    places,
)
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import Ask
from emokernel.lab.measure.fluency import distinct_n, exponential, surprises
from emokernel.lab.measure.generation import Job, Written, write
from emokernel.lab.measure.journal import Journal
from emokernel.lab.measure.sampling import Sampling
from emokernel.steering import Steering

# The same for all texts, steered or not, so that they differ by their dose alone.
_SEED = 0
_POINTS_AT_ONCE = 12


@dataclass(frozen=True)
class Prompts:
    """(prefix, opening) of each text, see `emokernel.lab.measure.generation.Job`.

    special_tokens: whether the tokenizer adds its own to them.
    """

    pairs: tuple[tuple[str, str], ...]
    special_tokens: bool

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str] | None = None, count: int = 40) -> Prompts:
        """``count`` of ``texts``, or of the package's own neutral ones unless given.

        A model with a chat template is asked them as questions, without an instruction; any other
        continues them as openings. The package's own are taken from the end of the order in which
        `extract` takes them from its beginning, so that the two meet only when it uses most of
        them. EmokernelError without texts.
        """
        chat = bool(getattr(tokenizer, "chat_template", None))
        if texts is None:
            shipped = Queries.shipped() if chat else Queries.openings()
            neutral = pairs(Queries(shipped.neutral), "any")
            texts = [query.text for query in reversed(neutral)]
        chosen = list(dict.fromkeys(texts))[:count]
        if not chosen:
            raise EmokernelError("calibration needs prompts: the list is empty")
        if chat:
            return cls(tuple((question(text, tokenizer), "") for text in chosen), False)
        return cls(tuple(("", text) for text in chosen), True)


@dataclass(frozen=True)
class Setting:
    """What is written and who reads it; the same for every dose.

    labels: {emotion: the judge's labels} where they are called otherwise. batch_size: texts that
    are written at once.
    """

    model: Any
    tokenizer: Any
    judge: TextClassifier
    prompts: Prompts
    sampling: Sampling
    coordinates: Coordinates
    labels: LabelsOf
    batch_size: int = 240

    def places(self) -> list[str]:
        """For each label of the judge, the emotion whose place on the circumplex it has.

        EmokernelError if the table knows none of them.
        """
        return places(self.judge, self.coordinates, self.labels)


@dataclass(frozen=True)
class Texts:
    """Texts as they are read: label probabilities ``[n, labels]``, nats per token under the
    unsteered model, distinct 3-grams (0 for texts too short to have any).
    """

    written: Sequence[Written]
    probabilities: Tensor
    surprise: float
    distinct: float

    @classmethod
    def read(cls, setting: Setting, written: Sequence[Written]) -> Texts:
        """Read by the judge and by the model, which must be unsteered."""
        surprise, tokens = surprises(
            setting.model, setting.tokenizer, [one.read for one in written],
            special_tokens=setting.prompts.special_tokens,
        )  # fmt: skip
        distinct = distinct_n([one.pair[1] for one in written])
        # A model that writes nothing at all is as surprising as can be.
        nats = float(surprise.sum() / tokens.sum()) if tokens.any() else math.inf
        return cls(
            written, setting.judge.probabilities([one.text for one in written]), nats, distinct
        )

    def effect(self, setting: Setting, ask: Ask) -> float:
        """Mean probability of the emotion's labels, or mean affect along the state's direction."""
        if isinstance(ask.emotion, Affect):
            affect = affect_of(self.probabilities, setting.places(), setting.coordinates).mean(0)
            direction = torch.tensor([ask.emotion.valence, ask.emotion.arousal])
            return float(affect @ (direction / ask.emotion.radius))
        shown = emotion_probabilities(setting.judge, self.probabilities, ask.name, setting.labels)
        return float(shown.mean())

    def encoded(self, setting: Setting, count: int) -> Encoded:
        """``count`` of them, as the divergence of a dose is measured on."""
        pairs = [one.read for one in self.written if one.pair[1]]
        special_tokens = setting.prompts.special_tokens
        return encoded(setting.tokenizer, pairs[:count], special_tokens=special_tokens)


def unsteered(setting: Setting, steering: Steering) -> Texts:
    """Write and read the texts that all others are compared with."""
    jobs = [Job(opening, prefix=prefix) for prefix, opening in setting.prompts.pairs]
    texts = Texts.read(setting, _written(setting, steering, jobs))
    if not (math.isfinite(texts.surprise) and texts.distinct):
        raise EmokernelError(
            "the unsteered model writes next to nothing behind these prompts, not three words in a"
            " row: let it write more (--max-new-tokens), or give other prompts (--queries)"
        )
    return texts


def points(
    setting: Setting,
    steering: Steering,
    plain: Texts,
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
    plain: Texts,
    chunk: Sequence[tuple[Ask, float, float]],
) -> list[Point]:
    jobs = [
        Job(opening, ask.at(strength), prefix)
        for ask, _, strength in chunk
        for prefix, opening in setting.prompts.pairs
    ]
    written = _written(setting, steering, jobs)
    size = len(setting.prompts.pairs)
    measured = []
    for number, (ask, divergence, strength) in enumerate(chunk):
        texts = Texts.read(setting, written[number * size : (number + 1) * size])
        perplexity = exponential(texts.surprise - plain.surprise)
        distinct = texts.distinct / plain.distinct
        effect = texts.effect(setting, ask)
        measured.append(Point(strength, divergence, effect, perplexity, distinct))
    return measured


def _written(setting: Setting, steering: Steering, jobs: Sequence[Job]) -> list[Written]:
    batches = write(
        setting.model, setting.tokenizer, steering, jobs, _SEED, sampling=setting.sampling,
        special_tokens=setting.prompts.special_tokens, batch_size=setting.batch_size,
    )  # fmt: skip
    return [one for batch in batches for one in batch]
