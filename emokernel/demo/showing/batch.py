"""One question, one batch: each row of it feels something else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emokernel.affect import Coordinates
from emokernel.errors import NoDoseError
from emokernel.lab.evaluate.plan import spread
from emokernel.lab.evaluate.prompting import Prompting
from emokernel.lab.evaluate.results import UNSTEERED
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from emokernel.requests import Request
from emokernel.steering import Steering


@dataclass(frozen=True)
class Batch:
    """``texts``: {emotion: answer}, the unsteered one first, of ``tokens`` at most. ``seconds``:
    until all were there. ``strength``: of the emotions. ``redrawn``: answers drawn again, because
    the first could not be shown.
    """

    question: str
    texts: Mapping[str, str]
    tokens: int
    seconds: float
    strength: float
    redrawn: int

    @property
    def about(self) -> str:
        """How it came about, in a sentence."""
        again = f", {self.redrawn} of them drawn again" if self.redrawn else ""
        return (
            f"{len(self.texts)} answers of at most {self.tokens} tokens in one batch, under the"
            " same random numbers, the first unsteered, each other one steered by an emotion of its"
            f" own at strength {self.strength}: {self.seconds:.1f} s{again}."
        )


def dosed(steering: Steering) -> list[str]:
    """The emotions that any dose within the bounds of a calibration strengthens."""
    names = []
    for name in steering.vectors.names:
        with suppress(NoDoseError):
            steering.check(Request(name, 1.0))
            names.append(name)
    return names


def around(names: Sequence[str], coordinates: Coordinates, count: int) -> list[str]:
    """``count`` of the names that lie all around the circle, by angle; without one last."""
    some = spread(names, coordinates)[:count]
    angles = {name: coordinates.angle(name) for name in some}
    return sorted(some, key=lambda name: 360.0 if angles[name] is None else angles[name])


def speak(
    model: Any,
    tokenizer: Any,
    steering: Steering,
    asked: Prompting,
    question: str,
    emotions: Sequence[str],
    strength: float,
    *,
    sampling: Sampling,
    accept: Callable[[str], bool],
) -> Batch:
    """The answers to ``question``, unsteered and with each of ``emotions`` at ``strength``."""
    prefix, opening = asked.plain(question)
    requests = [None, *(Request(emotion, strength) for emotion in emotions)]
    jobs = [Job(opening, request, prefix, question) for request in requests]
    began = time.perf_counter()
    (written,) = write(
        model, tokenizer, steering, jobs, 0, sampling=sampling, batch_size=len(jobs),
        special_tokens=asked.special_tokens, accept=accept,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    texts = dict(zip((UNSTEERED, *emotions), (one.text for one in written), strict=True))
    redrawn = sum(one.redrawn > 0 for one in written)
    return Batch(question, texts, sampling.max_new_tokens, seconds, strength, redrawn)
