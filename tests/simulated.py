"""A landscape whose truth is known: the effect rises with the root of the divergence, the logarithm
of the perplexity with the divergence, and texts are noisy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from zlib import crc32

import numpy as np

from emokernel import EmotionVectors
from emokernel.lab.calibrate.halving import Arm
from emokernel.lab.calibrate.measuring import Dose, Steered
from emokernel.lab.calibrate.readings import Readings
from emokernel.lab.measure.equal_doses import Ask, Ladder

LEVELS = (0.25, 0.6)
EMOTIONS = tuple(f"emotion {n}" for n in range(15))
TOKENS = 50


@dataclass(eq=False)
class Simulated:
    """``gains``: effect of an arm at one nat per token; ``cost``: of an emotion, log perplexity
    there; ``repeats``: how many of its twenty words a text says again there, all of them at most.
    ``taken`` counts the texts of each arm and of each (arm, ask, strength, prompt).
    """

    gains: Mapping[str, float]
    cost: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.2
    seed: int = 0
    prompts: int = 40
    repeats: int = 0
    taken: dict = field(default_factory=dict)
    unsteered: dict = field(default_factory=dict)  # what was asked for before, as in a real one

    def plain(self, ask: Ask, prompts: Sequence[int]) -> Readings:
        key = ask.name, tuple(prompts)
        if key not in self.unsteered:
            self.unsteered[key] = self._readings("plain", ask, 0.0, prompts)
        return self.unsteered[key]

    def ladders(self, steered: Steered, spans) -> dict[Ask, Ladder]:
        return {ask: Ladder(ask, {s: s * s for s in (0.25, 0.5, 1.0, 2.0)}) for ask in spans}

    def read(self, steered: Steered, doses: Sequence[Dose]) -> list[Readings]:
        for dose in doses:
            for prompt in dose.prompts:
                key = steered.name, dose.ask.name, dose.strength, prompt
                self.taken[key] = self.taken.get(key, 0) + 1
        return [
            self._readings(steered.name, dose.ask, dose.strength, dose.prompts) for dose in doses
        ]

    def texts(self, name: str = "") -> int:
        return sum(count for key, count in self.taken.items() if key[0].startswith(name))

    def truth(self, name: str, log_bound: float, emotion: str) -> tuple[float, float]:
        """(strength, effect) at the bound of perplexity."""
        divergence = log_bound / self.cost.get(emotion, 0.8)
        return math.sqrt(divergence), self.gains[name] * math.sqrt(divergence)

    def _readings(self, name: str, ask: Ask, strength: float, prompts) -> Readings:
        effects, nats = [], []
        for prompt in prompts:
            # What a prompt brings is the same for all doses, as with equal random numbers.
            own, shared = (
                np.random.default_rng([self.seed, crc32(repr(each).encode())]).normal(size=2)
                for each in ((name, ask.name, strength, prompt), (ask.name, prompt))
            )
            gain = self.gains.get(name, 0.0)
            mean = 0.1 + gain * strength
            effects.append(mean + self.noise * (0.7 * own[0] + 0.7 * shared[0]))
            log = 3.0 + self.cost.get(ask.name, 0.8) * strength**2
            nats.append(TOKENS * (log + self.noise * (0.7 * own[1] + 0.7 * shared[1])))
        again = min(20, round(self.repeats * strength**2))
        words = [_words(prompt, again) for prompt in prompts]
        return Readings.of([list(prompts), effects, nats, [TOKENS] * len(words), words])


@cache
def _words(prompt: int, again: int) -> str:
    """Twenty words, and the first of them again."""
    return " ".join(f"w{prompt}x{n}" for n in (*range(20), *range(again)))


def arm(name: str, emotions: Sequence[str] = EMOTIONS, levels=LEVELS) -> Arm:
    asks = [Ask(emotion, emotion, "preserve", "absolute") for emotion in emotions]
    return Arm(name, Steered(name, _nothing()), dict.fromkeys(asks, levels))


def _nothing() -> EmotionVectors:
    return None  # the landscape knows it all
