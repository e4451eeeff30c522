"""Measuring doses: texts written behind prompts, read by the judge and by the unsteered model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from emokernel.affect import Affect
from emokernel.errors import EmokernelError
from emokernel.lab.calibrate.readings import Readings
from emokernel.lab.calibrate.setting import Setting
from emokernel.lab.measure.classifiers import affect_of, emotion_probabilities
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import MOST_REQUESTS, Ask, Ladder, ladders
from emokernel.lab.measure.fluency import distinct_n, surprises
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.journal import Journal
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors

# Divergences are measured on the beginnings of as many unsteered texts as have these tokens, and
# interpolated between strengths this far apart: a dose is found by its texts in the end.
_LADDER_TOKENS, _LADDER_STEP = 40, 3.0


@dataclass(frozen=True)
class Steered:
    """Vectors as a model is steered with them; ``name`` is what the journal calls them."""

    name: str
    vectors: EmotionVectors


@dataclass(frozen=True)
class Dose:
    """A strength of something, and the prompts (by number) behind which it is to be measured."""

    ask: Ask
    strength: float
    prompts: tuple[int, ...]

    def key(self) -> str:
        """What a journal calls it."""
        ask = self.ask
        prompts = ",".join(map(str, self.prompts))
        return f"{ask.name} | {ask.law} {ask.dose} | {self.strength!r} | {prompts}"


class Landscape(Protocol):
    """What a search measures. ``prompts``: how many there are, numbered from 0."""

    prompts: int

    def plain(self, ask: Ask, prompts: Sequence[int]) -> Readings:
        """The unsteered texts behind prompts, with the effect of ``ask``."""
        ...

    def ladders(
        self, steered: Steered, spans: Mapping[Ask, tuple[float, float]]
    ) -> dict[Ask, Ladder]:
        """`emokernel.lab.measure.equal_doses.ladders`."""
        ...

    def read(self, steered: Steered, doses: Sequence[Dose]) -> list[Readings]:
        """What each of the doses does."""
        ...


class Measuring:
    """The landscape of a model: it writes and reads texts, and keeps all of them in a journal.

    Unsteered texts are written once. ``written``, ``read``: tokens so far, those of the journal
    among them; ``bar`` is told of both. ``close`` gives the model back.
    """

    def __init__(self, setting: Setting, journal: Journal, bar: tqdm) -> None:
        self.prompts = len(setting.prompts.pairs)
        self.written = self.read_again = 0
        self._setting, self._journal, self._bar = setting, journal, bar
        self._steered: tuple[Steered, Steering] | None = None
        self._unsteered: tuple[Readings, Tensor] | None = None
        pairs = ["".join(pair) for pair in setting.prompts.pairs]
        options = {"add_special_tokens": setting.prompts.special_tokens}
        self._lengths = [len(ids) for ids in setting.tokenizer(pairs, **options)["input_ids"]]

    def close(self) -> None:
        """Unpatch the model."""
        if self._steered is not None:
            self._steered[1].unpatch()
            self._steered = None

    def expected(self, texts: int) -> int:
        """Tokens that are written and read for so many texts, of the usual length if known."""
        context = sum(self._lengths) / len(self._lengths)
        length = self._setting.sampling.max_new_tokens
        if self._unsteered is not None:
            length = sum(self._unsteered[0].tokens) / self.prompts
        return round(texts * 2 * (context + length))

    def plain(self, ask: Ask, prompts: Sequence[int]) -> Readings:
        """As `Landscape.plain`; after the first call of another method."""
        readings, probabilities = self._plain()
        effects = self._effects(ask, probabilities).tolist()
        columns = readings.columns()
        columns[1] = effects
        return Readings.of([[column[number] for number in prompts] for column in columns])

    def ladders(
        self, steered: Steered, spans: Mapping[Ask, tuple[float, float]]
    ) -> dict[Ask, Ladder]:
        """As `Landscape.ladders`."""
        key = f"ladders | {steered.name} | " + "; ".join(
            f"{ask.name} {ask.law} {ask.dose} {least!r} {most!r}"
            for ask, (least, most) in spans.items()
        )
        if self._journal.get(key) is None:
            steering = self._patched(steered)
            texts = self._texts()
            found = ladders(self._setting.model, steering, texts, spans, step=_LADDER_STEP)
            rungs = [list(ladder.rungs.items()) for ladder in found.values()]
            self._journal.put({key: {"rungs": rungs, "length": int(texts.mask.sum())}})
        known = self._journal.get(key)
        self._plain()
        self._tell(0, sum(map(len, known["rungs"])) * known["length"])
        return {
            ask: Ladder(ask, dict(map(tuple, rungs)))
            for ask, rungs in zip(spans, known["rungs"], strict=True)
        }

    def read(self, steered: Steered, doses: Sequence[Dose]) -> list[Readings]:
        """As `Landscape.read`."""
        found: list[Readings] = []
        for chunk in self._chunks(doses):
            keys = [f"{steered.name} | {dose.key()}" for dose in chunk]
            if any(self._journal.get(key) is None for key in keys):
                measured = self._measure(steered, chunk)
                self._journal.put(
                    {key: each.columns() for key, each in zip(keys, measured, strict=True)}
                )
            for key in keys:
                found.append(Readings.of(self._journal.get(key)))
                self._tell_texts(found[-1])
        return found

    def _chunks(self, doses: Sequence[Dose]) -> list[list[Dose]]:
        """The doses whose texts are written at once."""
        chunks: list[list[Dose]] = [[]]
        rows = 0
        for dose in doses:
            rows += len(dose.prompts)
            if chunks[-1] and rows > self._setting.batch_size:
                chunks.append([])
                rows = len(dose.prompts)
            chunks[-1].append(dose)
        return chunks

    def _measure(self, steered: Steered, doses: Sequence[Dose]) -> list[Readings]:
        jobs = [(number, dose.ask.at(dose.strength)) for dose in doses for number in dose.prompts]
        whole, probabilities = self._texts_of(self._patched(steered), jobs)
        measured, start = [], 0
        for dose in doses:
            rows = slice(start, start := start + len(dose.prompts))
            part = Readings.of([column[rows] for column in whole.columns()])
            effects = self._effects(dose.ask, probabilities[rows])
            measured.append(replace(part, effects=tuple(effects.tolist())))
        return measured

    def _texts_of(
        self, steering: Steering, jobs: Sequence[tuple[int, Any]]
    ) -> tuple[Readings, Tensor]:
        """Readings without effects, and label probabilities ``[n, labels]``."""
        setting, special_tokens = self._setting, self._setting.prompts.special_tokens
        pairs = [(*setting.prompts.pairs[number], request) for number, request in jobs]
        batches = write(
            setting.model, setting.tokenizer, steering,
            [Job(opening, request, prefix) for prefix, opening, request in pairs],
            setting.seed, sampling=setting.sampling, special_tokens=special_tokens,
            batch_size=setting.batch_size,
        )  # fmt: skip
        written = [one for batch in batches for one in batch]
        nats, tokens = surprises(
            setting.model, setting.tokenizer, [one.read for one in written],
            special_tokens=special_tokens,
        )  # fmt: skip
        readings = Readings.of([
            [number for number, _ in jobs], [0.0] * len(jobs), nats.tolist(),
            tokens.int().tolist(), [one.pair[1] for one in written],
        ])  # fmt: skip
        return readings, setting.judge.probabilities([one.text for one in written])

    def _effects(self, ask: Ask, probabilities: Tensor) -> Tensor:
        """Probability ``[n]`` of the emotion's labels, or affect along the state's direction."""
        setting = self._setting
        if isinstance(ask.emotion, Affect):
            affect = affect_of(probabilities, setting.places(), setting.coordinates)
            direction = torch.tensor([ask.emotion.valence, ask.emotion.arousal])
            return affect @ (direction / ask.emotion.radius)
        return emotion_probabilities(setting.judge, probabilities, ask.name, setting.labels)

    def _patched(self, steered: Steered) -> Steering:
        if self._steered is None or self._steered[0] is not steered:
            self.close()
            steering = patch(self._setting.model, steered.vectors, slots=MOST_REQUESTS)
            self._steered = steered, steering
        return self._steered[1]

    def _plain(self) -> tuple[Readings, Tensor]:
        """The texts that all others are compared with, behind all prompts."""
        if self._unsteered is not None:
            return self._unsteered
        known = self._journal.get("unsteered")
        if known is None:
            if self._steered is None:
                raise RuntimeError("unsteered texts are written by a patched model")
            jobs = [(number, None) for number in range(self.prompts)]
            readings, probabilities = self._texts_of(self._steered[1], jobs)
            if not (math.isfinite(readings.surprise()) and distinct_n(readings.texts)):
                raise EmokernelError(
                    "the unsteered model writes next to nothing behind these prompts, not three"
                    " words in a row: let it write more (--max-new-tokens), or give other prompts"
                    " (--queries)"
                )
            known = {"readings": readings.columns(), "probabilities": probabilities.tolist()}
            self._journal.put({"unsteered": known})
        readings = Readings.of(known["readings"])
        self._unsteered = readings, torch.tensor(known["probabilities"])
        self._tell_texts(readings)
        return self._unsteered

    def _texts(self) -> Encoded:
        """What divergences are measured on: the beginnings of a few unsteered texts."""
        readings, _ = self._plain()
        special_tokens = self._setting.prompts.special_tokens
        pairs = [
            ("".join(self._setting.prompts.pairs[number]), text)
            for number, text in zip(readings.prompts, readings.texts, strict=True)
            if text
        ]
        written = [
            tokens for tokens, text in zip(readings.tokens, readings.texts, strict=True) if text
        ]
        count, tokens = 0, 0
        while tokens < _LADDER_TOKENS and count < len(pairs):
            count, tokens = count + 1, tokens + written[count]
        texts = encoded(self._setting.tokenizer, pairs[:count], special_tokens=special_tokens)
        counted = texts.counted & (texts.counted.cumsum(1) <= _LADDER_TOKENS)
        length = int(counted.any(0).nonzero().max()) + 1 if counted.any() else 1
        return Encoded(texts.ids[:, :length], texts.mask[:, :length], counted[:, :length])

    def _tell_texts(self, readings: Readings) -> None:
        written = sum(readings.tokens)
        context = sum(self._lengths[number] for number in readings.prompts)
        self._tell(written, 2 * context + written)

    def _tell(self, written: int, read: int) -> None:
        self.written += written
        self.read_again += read
        self._bar.update(written + read)
