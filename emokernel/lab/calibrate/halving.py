"""Choosing among ways to steer: few texts of all of them, more of those that may be the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from emokernel.affect.mixes import Emotion
from emokernel.errors import EmokernelError, ModelStructureError, SteeringError
from emokernel.lab.calibrate.choose import NOISE, Bounds, Point, choose
from emokernel.lab.calibrate.measuring import Dose, Landscape, Steered
from emokernel.lab.calibrate.plan import LEVELS, PROBE, each, kept
from emokernel.lab.calibrate.readings import Readings
from emokernel.lab.measure.equal_doses import Ask, Ladder
from emokernel.lab.measure.fluency import distinct_n, exponential

# Where the bounds may be met, in nats per token.
_LEAST, _MOST = PROBE / 8, 4 * PROBE


@dataclass(eq=False)
class Arm:
    """A way to steer, its doses, and what is known of them.

    levels: for each ask the divergences at which ways are compared; the first of each are compared
    with each other, and so on. taken: {ask: {divergence: (strength, what was read)}}.
    """

    name: str
    steered: Steered
    levels: Mapping[Ask, Sequence[float]]
    ladders: dict[Ask, Ladder] = field(default_factory=dict)
    taken: dict[Ask, dict[float, tuple[float, Readings]]] = field(default_factory=dict)

    @property
    def asks(self) -> list[Ask]:
        """All of them."""
        return list(self.levels)

    def measure(
        self,
        landscape: Landscape,
        doses: Mapping[Ask, Sequence[float]],
        start: int,
        stop: int,
    ) -> None:
        """Take the texts from number ``start`` to ``stop`` of divergences, but what is known.

        The prompts of an emotion are the same for all arms and doses; those of another emotion
        begin elsewhere in the list.
        """
        spans = {
            ask: (min(of), max(of))
            for ask, of in doses.items()
            if ask not in self.ladders or not self.ladders[ask].spans(min(of), max(of))
        }
        if spans:
            self.ladders |= landscape.ladders(self.steered, spans)
        wanted: list[tuple[float, Dose]] = []
        for number, ask in enumerate(self.asks):
            shift = number * landscape.prompts // len(self.asks)
            for divergence in doses[ask]:
                unknown = self.ladders[ask].strength(divergence), Readings()
                prompts = [(shift + n) % landscape.prompts for n in range(start, stop)]
                # A ladder that was measured again would say a slightly different strength.
                strength, known = self.taken.get(ask, {}).get(divergence, unknown)
                new = tuple(p for p in dict.fromkeys(prompts) if p not in known.prompts)
                if new:
                    wanted.append((divergence, Dose(ask, strength, new)))
        found = landscape.read(self.steered, [dose for _, dose in wanted])
        for (divergence, dose), readings in zip(wanted, found, strict=True):
            of_ask = self.taken.setdefault(dose.ask, {})
            _, known = of_ask.get(divergence, (dose.strength, Readings()))
            of_ask[divergence] = dose.strength, known + readings

    def points(self, landscape: Landscape, ask: Ask) -> dict[float, Point]:
        """{divergence: what it does}; effects as behind all prompts, judged by what the unsteered
        texts behind the same few show.
        """
        unsteered = landscape.plain(ask, range(landscape.prompts)).effect
        found: dict[float, Point] = {}
        for divergence, (strength, readings) in self.taken[ask].items():
            plain = landscape.plain(ask, readings.prompts)
            point = readings.point(plain, strength, divergence)
            found[divergence] = replace(point, effect=point.effect - plain.effect + unsteered)
        return found


@dataclass(frozen=True)
class Score:
    """Mean effect at the best dose within the bounds; ``without`` each emotion in turn."""

    mean: float
    without: tuple[float, ...]

    def ahead(self, other: Score) -> tuple[float, float]:
        """95 % interval of how much better this is than the other, by the jackknife."""
        count = len(self.without)
        if count < 3 or count != len(other.without):
            return -math.inf, math.inf
        difference = self.mean - other.mean
        parts = count * difference - (count - 1) * (
            np.array(self.without) - np.array(other.without)
        )
        half = 2 * float(np.std(parts, ddof=1)) / math.sqrt(count)
        return difference - half, difference + half


def score(arm: Arm, landscape: Landscape, bounds: Bounds, among: Sequence[Arm] = ()) -> Score:
    """Of the texts of all emotions together, since one emotion has too few for its own; of those
    emotions alone that can be asked of each of ``among``, if there are any.
    """
    asks = [a for a in arm.asks if all(a.emotion in _emotions(other) for other in among)]
    asks = asks or arm.asks
    count = len(arm.levels[arm.asks[0]])
    sums = [_sums(arm, landscape, asks, number) for number in range(count)]
    plain = np.array([landscape.plain(ask, range(landscape.prompts)).effect for ask in asks])

    def best(chosen: np.ndarray) -> float:
        points = [_together(level[chosen]) for level in sums]
        return choose(points, float(plain[chosen].mean()), bounds).effect

    every = np.arange(len(asks))
    leaving = every if len(every) > 1 else ()
    return Score(best(every), tuple(best(every[every != number]) for number in leaving))


def levels(
    landscape: Landscape, arms: Sequence[Arm], rounds: Sequence[int], bounds: Bounds
) -> tuple[float, ...]:
    """`LEVELS` times the divergence at which the bounds are met, by texts of the first arm that the
    model allows, which has the one level `PROBE`. The logarithm of the perplexity and the share of
    3-grams that is lost are taken to go with the divergence, and so is what is repeated.
    """
    refused: Exception | None = None
    for arm in arms:
        try:
            arm.measure(landscape, arm.levels, 0, sum(each(t, len(arm.asks)) for t in rounds))
        except (ModelStructureError, SteeringError) as error:
            refused = error
            continue
        point = _together(_sums(arm, landscape, arm.asks, 0))
        used = (
            math.log(max(point.perplexity, 1e-6)) / math.log(bounds.perplexity),
            (1 - point.distinct) / (1 - bounds.distinct + 1e-9),
            point.repetition / bounds.repetition,
        )
        at = PROBE / min(max(*used, PROBE / _MOST), PROBE / _LEAST)
        return tuple(level * at for level in LEVELS)
    raise refused or EmokernelError("there is nothing to measure")


def halve(
    landscape: Landscape,
    arms: Sequence[Arm],
    rounds: Sequence[int],
    bounds: Bounds,
    *,
    prefer_first: bool = False,
    also: Callable[[Arm], Sequence[Arm]] = lambda arm: (),
) -> dict[Arm, Score]:
    """Arms that were tried with their scores, the chosen one first; ``rounds``: texts of each.

    After each round a share goes on, the best ones, and of those only what may be better than the
    very best by more than noise. With ``prefer_first`` all go on that may be better than the first
    one, which is chosen unless another one is surely better. ``also``: what is tried from the
    second round on beside one that goes on. An arm that the model or its vectors do not allow is
    left out, and said; if none is left, that is an error.
    """
    alive, done, scores = list(arms), 0, {}
    refused: Exception | None = None
    for number, texts in enumerate(rounds):
        done += each(texts, len(alive[0].levels))
        for arm in list(alive):
            try:
                arm.measure(landscape, arm.levels, 0, done)
            except (ModelStructureError, SteeringError) as error:
                tqdm.write(f"  {arm.name}: left out ({error})")
                refused = error
                alive.remove(arm)
            else:
                scores[arm] = score(arm, landscape, bounds, arms)
        if not alive:
            break
        ranked = sorted(alive, key=lambda arm: -scores[arm].mean)
        reference = alive[0] if prefer_first else ranked[0]
        ranked = ranked if prefer_first else ranked[: kept(len(ranked))]
        alive = [reference]
        for arm in ranked:
            if arm is not reference and scores[arm].ahead(scores[reference])[1] > NOISE:
                alive.append(arm)
        if number == 0:
            alive += [more for arm in alive for more in also(arm)]
        if len(alive) == 1:
            break
    if not scores:
        raise refused
    ranked = sorted(scores, key=lambda arm: -scores[arm].mean)
    chosen = max((arm for arm in alive if arm in scores), key=lambda arm: scores[arm].mean)
    if prefer_first and scores[chosen].ahead(scores[alive[0]])[0] <= 0:
        chosen = alive[0]
    return {arm: scores[arm] for arm in (chosen, *(arm for arm in ranked if arm is not chosen))}


def _emotions(arm: Arm) -> list[Emotion]:
    return [ask.emotion for ask in arm.asks]


def _sums(arm: Arm, landscape: Landscape, asks: Sequence[Ask], level: int) -> np.ndarray:
    """Of each ask what `_together` adds up, at one level: ``[asks, 10]``."""
    rows = []
    for ask in asks:
        divergence = arm.levels[ask][level]
        point = arm.points(landscape, ask)[divergence]
        strength, readings = arm.taken[ask][divergence]
        plain = landscape.plain(ask, readings.prompts)
        # Texts of a word or two say nothing of how distinct they are.
        long = len(readings) if point.distinct and distinct_n(plain.texts) else 0
        rows.append((
            strength, divergence, point.effect, sum(readings.nats), sum(readings.tokens),
            sum(plain.nats), sum(plain.tokens), long * point.distinct, long * point.repetition,
            long,
        ))  # fmt: skip
    return np.array(rows)


def _together(sums: np.ndarray) -> Point:
    """The point that the texts of several asks make."""
    strength, divergence, effect = sums[:, :3].mean(0).tolist()
    nats, tokens, plain_nats, plain_tokens, *of_texts, texts = sums[:, 3:].sum(0).tolist()
    distinct, repetition = (each / texts if texts else 0.0 for each in of_texts)
    surprise = nats / tokens if tokens else math.inf
    perplexity = exponential(surprise - plain_nats / plain_tokens) if plain_tokens else math.inf
    return Point(
        strength, divergence, effect, perplexity, distinct, max(1, round(texts)), repetition,
    )  # fmt: skip
