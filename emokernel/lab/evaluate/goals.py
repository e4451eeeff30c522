"""What steering is asked to show, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean

from emokernel.lab.evaluate.plan import STRENGTH
from emokernel.lab.evaluate.results import (
    PROMPT,
    VECTOR,
    Ceiling,
    Consistency,
    EmotionPoint,
    Goal,
    Interval,
    Monotone,
)

# The best model of arXiv 2504.14706, by prompting.
COSINE = 0.75
OF_CEILING = 0.85
ABOVE_PROMPTS = 0.2
INTENDED = 0.5
PERPLEXITY, DISTINCT, KEPT, SPEARMAN = 1.5, 0.9, 0.9, 0.9
# Times as many texts as there are; what would need more is not worth telling.
_MOST_TEXTS = 10


def goals(
    judge: str,
    law: str,
    ceilings: Sequence[Ceiling],
    consistency: Sequence[Consistency],
    emotions: Sequence[EmotionPoint],
    monotone: Sequence[Monotone],
    advantages: Mapping[str, Interval],
    intended: Interval,
    kept: Interval | None,
) -> list[Goal]:
    """The goals, as the main judge reads the texts; of steering with ``law`` at strength 1.0, and
    of the emotions that the judge knows.

    ``advantages``: cosines by vector less by prompt, paired, {template: its mean}. ``intended``:
    the probability of the intended emotion over all texts; ``kept``: `Sentences.kept`, over those
    of emotions that some dose moves.
    """
    states = [each for each in consistency if each.judge == judge]
    known = [point for point in emotions if judge in point.measures.intended]
    steered = [p for p in known if (p.by, p.strength, p.law) == (STRENGTH, 1, law)]
    # What no dose strengthens is written unsteered, which is fluent for nothing.
    moved = [point for point in steered if point.divergence]
    vector = next(each for each in states if each.mode == VECTOR and each.intensity == 1)
    return [
        _cosine(vector, [each.cosine.mean for each in ceilings if each.judge == judge]),
        _above_prompts(vector, [each for each in states if each.mode == PROMPT], advantages),
        _intended(judge, steered, [point for point in known if point.mode == PROMPT], intended),
        _perplexity(moved),
        _kept(kept),
        _monotone([each for each in monotone if each.law == law]),
        _distinct(moved),
    ]


def verdicts(goals: Sequence[Goal]) -> str:
    """A line for each goal."""
    marks = {True: "yes", False: "no", None: "-"}
    lines = [
        f"  {marks[goal.holds]:<4}{goal.name}: {goal.value}; asked: {goal.bound}"
        + (f" ({goal.doubt})" if goal.doubt else "")
        for goal in goals
    ]
    return "\n".join(["Measured, and what was asked:", *lines])


def doubt(found: Interval, bound: float) -> str:
    """That an interval holds its bound, and how much more text would tell; "" if it does not.

    Intervals narrow with the square root of the number of texts.
    """
    if not found.low < bound < found.high:
        return ""
    side = found.mean - found.low if found.mean > bound else found.high - found.mean
    apart = abs(found.mean - bound)
    more = math.ceil(round((side / apart) ** 2, 6)) if apart else math.inf
    if more > _MOST_TEXTS:
        return "undecided: the interval holds the bound, which is next to what was found"
    return (
        f"undecided: the interval holds the bound; {max(2, more)} times as many texts (--seeds,"
        " --openings) would about tell"
    )


def _cosine(row: Consistency, ceilings: Sequence[float]) -> Goal:
    cosine, bound, asked = row.cosine, COSINE, f"at least {COSINE}"
    # Of several ceilings the highest, lest the goal be too easy; one within the floor is none.
    highest = max(ceilings, default=-1.0)
    if highest > row.floor.high:
        share = OF_CEILING * highest
        bound = min(COSINE, share)
        asked += f", or {OF_CEILING:.0%} of the ceiling {highest:.3f}, which is {share:.3f}"
    return Goal(
        "Mean cosine of twelve states by vector",
        f"{cosine.mean:.3f} ({cosine.low:.3f} to {cosine.high:.3f})",
        asked,
        cosine.mean >= bound,
        doubt(cosine, bound),
    )


def _above_prompts(
    vector: Consistency, prompts: Sequence[Consistency], advantages: Mapping[str, Interval]
) -> Goal:
    """Against the best of all prompts, at whatever intensity."""
    name = "Mean cosine by vector above that by prompt"
    if not prompts:
        return _not_measured(name, f"at least {ABOVE_PROMPTS} above the best prompt")
    best = max(prompts, key=lambda each: each.cosine.mean)
    cosine, more = vector.cosine.mean, advantages[best.template]
    bound = best.cosine.mean + ABOVE_PROMPTS
    return Goal(
        name,
        f"{cosine:.3f}; text by text {more.mean:+.3f} ({more.low:+.3f} to {more.high:+.3f})",
        f"at least {ABOVE_PROMPTS} above {best.cosine.mean:.3f}, the best prompt ({best.template})",
        cosine >= bound,
        # Text by text they are compared at intensity 1 alone.
        doubt(more, ABOVE_PROMPTS) if best.intensity == 1 else doubt(vector.cosine, bound),
    )


def _intended(
    judge: str,
    steered: Sequence[EmotionPoint],
    prompted: Sequence[EmotionPoint],
    found: Interval,
) -> Goal:
    """Beside the best of the prompts for most emotions."""
    by_template: dict[str, list[float]] = {}
    for point in prompted:
        means = by_template.setdefault(point.template, [])
        means.append(point.measures.intended[judge].mean)
    said = f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
    said += f" over {len(steered)} emotions"
    if by_template:
        best = max(by_template, key=lambda name: (len(by_template[name]), mean(by_template[name])))
        asks = by_template[best]
        few = "" if len(asks) == len(steered) else f" over {len(asks)}"
        said += f"; by prompt {mean(asks):.3f}{few} ({best})"
    return Goal(
        "Probability of the intended emotion at strength 1", said,
        f"at least {INTENDED} in the mean", found.mean >= INTENDED, doubt(found, INTENDED),
    )  # fmt: skip


def _perplexity(steered: Sequence[EmotionPoint]) -> Goal:
    name, asked = "Perplexity at strength 1", f"at most {PERPLEXITY} times in the mean"
    if not steered or any(math.isnan(point.measures.perplexity_ratio) for point in steered):
        return _not_measured(name, asked)
    ratios = {point.emotion: point.measures.perplexity_ratio for point in steered}
    ratio, worst = mean(ratios.values()), max(ratios, key=ratios.get)
    value = f"{ratio:.2f} times unsteered, most {ratios[worst]:.2f} ({worst})"
    return Goal(name, value, asked, ratio <= PERPLEXITY)


def _kept(found: Interval | None) -> Goal:
    name = "Topic at strength 1: similarity with the question, by sentences"
    asked = f"at least {KEPT} of that of unsteered answers"
    if found is None or math.isnan(found.mean):
        return _not_measured(name, asked)
    value = f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f}) of unsteered"
    return Goal(name, value, asked, found.mean >= KEPT, doubt(found, KEPT))


def _monotone(curves: Sequence[Monotone]) -> Goal:
    name = "Emotion rises with strength: Spearman's correlation of every emotion"
    asked = f"at least {SPEARMAN}"
    if not curves:
        return _not_measured(name, asked)
    least = min(curves, key=lambda each: each.correlation)
    enough = sum(each.correlation >= SPEARMAN for each in curves)
    value = f"least {least.correlation:.2f} ({least.emotion}); {enough} of {len(curves)} reach it"
    return Goal(name, value, asked, enough == len(curves))


def _distinct(steered: Sequence[EmotionPoint]) -> Goal:
    name, asked = "Distinct 3-grams at strength 1", f"at least {DISTINCT} times"
    if not steered:
        return _not_measured(name, asked)
    ratio = mean(point.measures.distinct_3_ratio for point in steered)
    loops = mean(point.measures.looping for point in steered)
    value = f"{ratio:.2f} times unsteered; {loops:.1%} of the texts loop"
    return Goal(name, value, asked, ratio >= DISTINCT)


def _not_measured(name: str, asked: str) -> Goal:
    return Goal(name, "not measured", asked, None)
