"""What steering is asked to show, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from emokernel.evaluate.plan import STRENGTH
from emokernel.evaluate.results import (
    PROMPT,
    UNSTEERED,
    VECTOR,
    Ceiling,
    Consistency,
    EmotionPoint,
    Goal,
    Monotone,
)

# The best model of arXiv 2504.14706, by prompting.
COSINE = 0.75
OF_CEILING = 0.85
PERPLEXITY, DISTINCT, SPEARMAN = 1.5, 0.9, 0.9


def goals(
    judge: str,
    law: str,
    ceilings: Sequence[Ceiling],
    consistency: Sequence[Consistency],
    emotions: Sequence[EmotionPoint],
    monotone: Sequence[Monotone],
) -> list[Goal]:
    """The goals, as the main judge reads the texts; of steering with ``law`` at strength 1.0."""
    states = [each for each in consistency if each.judge == judge]
    steered = [p for p in emotions if _is_full(p, law)]
    return [
        _cosine(judge, ceilings, states),
        *_above_prompts(states),
        *_intended(judge, emotions, steered),
        *_monotone(law, monotone),
        _distinct(steered),
    ]


def told(found: Sequence[Goal]) -> str:
    """A line for each goal."""
    lines = [
        f"  {'yes' if goal.holds else 'NO ':<4}{goal.name}: {goal.value}; asked for {goal.bound}"
        for goal in found
    ]
    return "\n".join(["Goals:", *lines])


def _cosine(judge: str, ceilings: Sequence[Ceiling], states: Sequence[Consistency]) -> Goal:
    found = _vector(states).cosine
    bounds, told = [COSINE], f"at least {COSINE}"
    of_judge = [each for each in ceilings if each.judge == judge]
    if of_judge:
        # Of several the highest, lest the goal be too easy.
        highest = max(each.cosine.mean for each in of_judge)
        bounds.append(OF_CEILING * highest)
        told += f", or {OF_CEILING:.0%} of the ceiling {highest:.3f}, which is {bounds[1]:.3f}"
    return Goal(
        "Mean cosine of twelve states by vector",
        f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})",
        told,
        found.mean >= min(bounds),
    )


def _above_prompts(states: Sequence[Consistency]) -> list[Goal]:
    """Against the best of all prompts."""
    prompts = [each for each in states if each.mode == PROMPT]
    if not prompts:
        return []
    best = max(prompts, key=lambda each: each.cosine.mean)
    found = _vector(states).cosine.mean
    return [
        Goal(
            "Mean cosine by vector above that by prompt",
            f"{found:.3f}",
            f"above {best.cosine.mean:.3f}, the best prompt ({best.template})",
            found > best.cosine.mean,
        )
    ]


def _intended(
    judge: str, emotions: Sequence[EmotionPoint], steered: Sequence[EmotionPoint]
) -> list[Goal]:
    """Against the better of the prompts that ask for every emotion."""
    value = mean(point.measures.intended[judge].mean for point in steered)
    names = {point.emotion for point in steered}
    prompted: dict[str, dict[str, float]] = {}
    for point in emotions:
        if point.mode == PROMPT and point.emotion in names:
            of = prompted.setdefault(point.template, {})
            of[point.emotion] = point.measures.intended[judge].mean
    means = [mean(of.values()) for of in prompted.values() if of.keys() == names]
    unsteered = mean(
        p.measures.intended[judge].mean
        for p in emotions
        if p.mode == UNSTEERED and p.emotion in names
    )
    bound = max(means, default=unsteered)
    ratios = {point.emotion: point.measures.perplexity_ratio for point in steered}
    ratio, worst = mean(ratios.values()), max(ratios, key=ratios.get)
    return [
        Goal(
            "Probability of the intended emotion at strength 1",
            f"{value:.3f}",
            f"above {bound:.3f}, {'by prompt' if means else 'unsteered'}",
            value > bound,
        ),
        Goal(
            "Perplexity at strength 1",
            f"{ratio:.2f} times unsteered, most {ratios[worst]:.2f} ({worst})",
            f"at most {PERPLEXITY} times in the mean",
            ratio <= PERPLEXITY,
        ),
    ]


def _monotone(law: str, monotone: Sequence[Monotone]) -> list[Goal]:
    of_law = [each for each in monotone if each.law == law]
    if not of_law:
        return []
    least = min(of_law, key=lambda each: each.correlation)
    enough = sum(each.correlation >= SPEARMAN for each in of_law)
    return [
        Goal(
            "Emotion rises with strength: Spearman's correlation of every emotion",
            f"least {least.correlation:.2f} ({least.emotion}); {enough} of {len(of_law)} reach it",
            f"at least {SPEARMAN}",
            enough == len(of_law),
        )
    ]


def _distinct(steered: Sequence[EmotionPoint]) -> Goal:
    ratio = mean(point.measures.distinct_3_ratio for point in steered)
    return Goal(
        "Distinct 3-grams at strength 1",
        f"{ratio:.2f} times unsteered",
        f"at least {DISTINCT} times",
        ratio >= DISTINCT,
    )


def _vector(states: Sequence[Consistency]) -> Consistency:
    return next(each for each in states if each.mode == VECTOR and each.intensity == 1)


def _is_full(point: EmotionPoint, law: str) -> bool:
    full = point.by == STRENGTH and point.strength == 1
    return full and point.mode == VECTOR and point.law == law
