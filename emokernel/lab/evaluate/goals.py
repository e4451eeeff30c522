"""What steering is asked to show, and whether it does."""

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
PERPLEXITY, DISTINCT, SPEARMAN = 1.5, 0.9, 0.9
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
    more_intended: Mapping[str, Interval],
) -> list[Goal]:
    """The goals, as the main judge reads the texts; of steering with ``law`` at strength 1.0.

    By vector less by prompt, paired, {template: its mean}: ``advantages`` are of cosines,
    ``more_intended`` of the probability of the intended emotion.
    """
    states = [each for each in consistency if each.judge == judge]
    steered = [p for p in emotions if (p.by, p.strength, p.law) == (STRENGTH, 1, law)]
    # What no dose strengthens is written unsteered, which is fluent for nothing.
    moved = [point for point in steered if point.divergence]
    vector = next(each for each in states if each.mode == VECTOR and each.intensity == 1)
    return [
        _cosine(vector, [each.cosine.mean for each in ceilings if each.judge == judge]),
        _above_prompts(vector, [each for each in states if each.mode == PROMPT], advantages),
        _intended(
            judge, steered, [point for point in emotions if point.mode == PROMPT], more_intended
        ),
        _perplexity(moved),
        _monotone([each for each in monotone if each.law == law]),
        _distinct(moved),
    ]


def verdicts(goals: Sequence[Goal]) -> str:
    """A line for each goal."""
    marks = {True: "yes", False: "NO", None: "-"}
    lines = [
        f"  {marks[goal.holds]:<4}{goal.name}: {goal.value}; asked for {goal.bound}"
        + (f" ({goal.doubt})" if goal.doubt else "")
        for goal in goals
    ]
    return "\n".join(["Goals:", *lines])


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
        return _not_measured(name, "above the best prompt")
    best = max(prompts, key=lambda each: each.cosine.mean)
    cosine, more = vector.cosine.mean, advantages[best.template]
    return Goal(
        name,
        f"{cosine:.3f}; text by text {more.mean:+.3f} ({more.low:+.3f} to {more.high:+.3f})",
        f"above {best.cosine.mean:.3f}, the best prompt ({best.template})",
        cosine > best.cosine.mean,
        # Text by text they are compared at intensity 1 alone.
        doubt(more, 0.0) if best.intensity == 1 else doubt(vector.cosine, best.cosine.mean),
    )


def _intended(
    judge: str,
    steered: Sequence[EmotionPoint],
    prompted: Sequence[EmotionPoint],
    more: Mapping[str, Interval],
) -> Goal:
    """Against the best of the prompts, over the emotions that it asks for."""
    name = "Probability of the intended emotion at strength 1"
    values = {point.emotion: point.measures.intended[judge].mean for point in steered}
    by_template: dict[str, dict[str, float]] = {}
    for point in prompted:
        if point.emotion in values:
            means = by_template.setdefault(point.template, {})
            means[point.emotion] = point.measures.intended[judge].mean
    if not by_template:
        return _not_measured(name, "above prompts", f"{mean(values.values()):.3f}")
    # Most emotions first, then the highest mean.
    template, best = max(
        by_template.items(), key=lambda each: (len(each[1]), mean(each[1].values()))
    )
    value, bound = mean(values[emotion] for emotion in best), mean(best.values())
    over = "" if len(best) == len(values) else f" over {len(best)} of {len(values)} emotions"
    return Goal(
        name, f"{value:.3f}{over}", f"above {bound:.3f}, by prompt", value > bound,
        doubt(more[template], 0.0),
    )  # fmt: skip


def _perplexity(steered: Sequence[EmotionPoint]) -> Goal:
    name, asked = "Perplexity at strength 1", f"at most {PERPLEXITY} times in the mean"
    if not steered or any(math.isnan(point.measures.perplexity_ratio) for point in steered):
        return _not_measured(name, asked)
    ratios = {point.emotion: point.measures.perplexity_ratio for point in steered}
    ratio, worst = mean(ratios.values()), max(ratios, key=ratios.get)
    value = f"{ratio:.2f} times unsteered, most {ratios[worst]:.2f} ({worst})"
    return Goal(name, value, asked, ratio <= PERPLEXITY)


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
    return Goal(name, f"{ratio:.2f} times unsteered", asked, ratio >= DISTINCT)


def _not_measured(name: str, asked: str, value: str = "not measured") -> Goal:
    return Goal(name, value, asked, None)
