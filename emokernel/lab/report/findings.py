"""What the figures say, in sentences that are computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emokernel.lab.evaluate.results import PROMPT, VECTOR, Goal, Interval
from emokernel.lab.report.figures import counted, times
from emokernel.lab.report.view import View


def verdict(view: View) -> list[str]:
    """How much of what was asked was reached, what was not, and what was not measured."""
    goals = view.results.goals
    if not goals:
        return []
    measured = [goal for goal in goals if goal.holds is not None]
    missed = [_short(goal) for goal in measured if not goal.holds]
    unknown = [_short(goal) for goal in goals if goal.holds is None]
    said = [f"Reached: {len(measured) - len(missed)} of the {len(measured)} that were measured"]
    said += [f"Not reached: {'; '.join(missed)}"] if missed else []
    doubtful = [_short(goal) for goal in goals if goal.doubt]
    said += [f"Undecided by so few texts: {'; '.join(doubtful)}"] if doubtful else []
    said += [f"Not measured: {'; '.join(unknown)}"] if unknown else []
    return [f"{'. '.join(said)}."]


def _short(goal: Goal) -> str:
    return goal.name.partition(":")[0]


def no_ceiling(view: View) -> list[str]:
    """That there is no ceiling, where there is none."""
    if view.ceiling() or not view.results.consistency:
        return []
    return [
        f"No ceiling is known for the judge {view.judge}: how much of the distance to 1 is the"
        " judge's own cannot be said."
    ]


def emotions(view: View) -> list[str]:
    """Vectors against prompts, emotion by emotion."""
    ratios, higher, lower = [], [], []
    for name in view.emotions:
        vector, prompt = view.at(name, VECTOR), view.at(name, PROMPT)
        one, other = view.intended(vector), view.intended(prompt)
        if vector and one and other and math.isfinite(one.mean + other.mean):
            ratios.append(vector.measures.perplexity_ratio)
            (higher if one.mean > other.mean else lower).append(name)
    if not ratios:
        return []
    sentence = (
        f"At strength 1.0 the intended emotion is more probable by vector than by prompt for"
        f" {len(higher)} of {counted(len(ratios), 'emotion')}, at a mean perplexity of"
        f" {times(sum(ratios) / len(ratios))} that of unsteered text."
    )
    return [sentence, *([f"Not for: {', '.join(lower)}."] if lower and higher else [])]


def laws(view: View) -> list[str]:
    """Preserve against add at equal dose: probability, surprise and adherence."""
    rows = view.results.laws
    if not rows:
        return []
    return [
        _law("Probability of the intended emotion", [row.intended_difference for row in rows], 1),
        _law("Surprise, of which less is better", [row.surprise_difference for row in rows], -1),
        _law("Adherence to the unsteered answer", [row.adherence_difference for row in rows], 1),
    ]


def one_judge(view: View) -> list[str]:
    """That there was one judge, where there was."""
    if len(view.judges) != 1:
        return []
    return ["There was one judge only, so nothing checks it but the ceiling."]


def _law(what: str, differences: Sequence[Interval], better: int) -> str:
    """``better``: the sign of a difference, preserve less add, that speaks for preserve."""
    known = [value for value in differences if math.isfinite(value.mean)]
    if not known:
        return f"{what}: no dose gave figures."
    clear = [value for value in known if value.low > 0 or value.high < 0]
    wins = sum(value.mean * better > 0 for value in clear)
    ahead = sum(value.mean * better > 0 for value in known)
    verdict = "neither law is shown to be better"
    if clear:
        verdict = f"preserve wins at {wins}, add at {len(clear) - wins}"
    return (
        f"{what}, at equal dose: preserve is ahead at {ahead} of {counted(len(known), 'dose')}; the"
        f" interval of the difference includes 0 at {len(known) - len(clear)}; {verdict}."
    )
