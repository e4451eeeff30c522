"""What the figures say, in sentences that are computed from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from emokernel.lab.evaluate.results import PROMPT, VECTOR, Interval, LawDose
from emokernel.lab.report.figures import counted, interval, number, percent, times
from emokernel.lab.report.state_tables import share
from emokernel.lab.report.view import ADD, NAMES, PRESERVE, View, title


def verdict(view: View) -> str:
    """How many of the measured goals hold, which do not, and which were not measured."""
    goals = view.results.goals
    unknown = [goal.name for goal in goals if goal.holds is None]
    missed = [goal.name for goal in goals if goal.holds is not None and not goal.holds]
    measured = len(goals) - len(unknown)
    if not goals:
        return ""
    if not measured:
        return f"No goal was measured: {'; '.join(unknown)}."
    if not unknown and not missed:
        return f"All {measured} goals hold." if measured > 1 else "The goal holds."
    held = measured - len(missed)
    said = [
        f"{held} of {counted(measured, 'measured goal' if unknown else 'goal')}"
        f" {'holds' if 1 in (held, measured) else 'hold'}",
        *([f"not reached: {'; '.join(missed)}"] if missed else []),
        *([f"not measured: {'; '.join(unknown)}"] if unknown else []),
    ]
    return f"{'. '.join(map(_capital, said))}."


def consistency(view: View) -> list[str]:
    """Each mode with floor and ceiling, and vectors against prompts."""
    full, ceiling = view.full(), view.ceiling()
    sentences = []
    for mode, row in full.items():
        name = title(row, view.templates(mode))
        text = f"{_capital(name)}: mean cosine {interval(row.cosine)}"
        part = share(row, ceiling)
        if part is not None and math.isfinite(part):
            text += f", {percent(part)} of the ceiling {interval(ceiling.cosine)}"
        text += f"; the floor is {interval(row.floor)}"
        sentences.append(f"{text}.")
    if full and ceiling is None:
        sentences.append(
            f"No ceiling is known for the judge {view.judge}: how much of the distance to 1 is the"
            " judge's own cannot be said."
        )
    if {PROMPT, VECTOR} <= full.keys():
        sentences.append(_compared(full[VECTOR].cosine, full[PROMPT].cosine))
    return sentences


def emotions(view: View) -> list[str]:
    """Vectors against prompts, emotion by emotion."""
    both = [
        (name, view.intended(vector), view.intended(prompt), vector)
        for name in view.emotions
        if (vector := view.at(name, VECTOR)) and (prompt := view.at(name, PROMPT))
    ]
    both = [row for row in both if row[1] and row[2] and math.isfinite(row[1].mean + row[2].mean)]
    if not both:
        return []
    higher = [name for name, vector, prompt, _ in both if vector.mean > prompt.mean]
    ratios = [vector.measures.perplexity_ratio for _, _, _, vector in both]
    sentence = (
        f"At strength 1.0 the intended emotion is more probable by vector than by prompt for"
        f" {len(higher)} of {counted(len(both), 'emotion')}, at a mean perplexity of"
        f" {times(sum(ratios) / len(ratios))} that of unsteered text."
    )
    lower = [name for name, _, _, _ in both if name not in higher]
    return [sentence, *([f"Not for: {', '.join(lower)}."] if lower and higher else [])]


def laws(view: View) -> list[str]:
    """Preserve against add at equal dose: probability, surprise and adherence."""
    rows = view.results.laws
    if not rows:
        return []
    first, *others = (
        _law(rows, "the higher probability of the intended emotion", _intended, 1),
        _law(rows, "the less surprising text", _surprise, -1),
        _law(rows, "the text that stays closer to the unsteered answer", _adherence, 1),
    )
    return [f"At equal dose, {first}", *(_capital(each) for each in others)]


def judges(view: View) -> list[str]:
    """Whether the judges say the same."""
    sentences = []
    for row in view.results.agreement:
        first, second = row.judges
        left_out = ", empty answers left out" if _has_empty(view) else ""
        sentences.append(
            f"{first} and {second} give the same label to {percent(row.equal)} of"
            f" {counted(row.texts, 'text')}{left_out} (Cohen's kappa {number(row.kappa)})."
        )
    if len(view.judges) == 1:
        sentences.append("There was one judge only, so nothing checks it but the ceiling.")
    for judge in view.judges:
        full = view.full(judge)
        if judge != view.judge and {PROMPT, VECTOR} <= full.keys():
            compared = _compared(full[VECTOR].cosine, full[PROMPT].cosine)
            sentences.append(f"As {judge} reads them: {compared[0].lower()}{compared[1:]}")
    return sentences


def _compared(vector: Interval, prompt: Interval) -> str:
    """The means as they are shown; that their intervals overlap or not would decide nothing."""
    if not math.isfinite(vector.mean - prompt.mean):
        return "Vectors and prompts cannot be compared."
    difference = round(vector.mean, 2) - round(prompt.mean, 2)
    if not difference:
        return (
            f"{NAMES[VECTOR].capitalize()} and {NAMES[PROMPT]} the mean cosine is equal to two"
            f" decimals ({number(vector.mean)})."
        )
    return (
        f"{NAMES[VECTOR].capitalize()} the mean cosine is {number(abs(difference))}"
        f" {'higher' if difference > 0 else 'lower'} than {NAMES[PROMPT]}"
        f" ({number(vector.mean)} against {number(prompt.mean)})."
    )


def _has_empty(view: View) -> bool:
    return any(row.empty > 0 for row in view.results.consistency)


def _law(
    rows: Sequence[LawDose], what: str, measure: Callable[[LawDose], Interval], better: int
) -> str:
    """``better``: the sign of a difference that speaks for preserve."""
    known = [value for row in rows if math.isfinite((value := measure(row)).mean)]
    if not known:
        return f"which law has {what} cannot be said: no dose gave figures."
    ahead = sum(value.mean * better > 0 for value in known)
    clear = [value for value in known if value.low > 0 or value.high < 0]
    wins = sum(value.mean * better > 0 for value in clear)
    text = (
        f"{PRESERVE} has {what} at {ahead} of {counted(len(known), 'dose')}; the"
        f" interval of the difference includes 0 at {len(known) - len(clear)}."
    )
    if not clear:
        return f"{text} Neither law is shown to be better."
    if not wins:
        return f"{text} Preserve wins nowhere; {ADD} wins at {counted(len(clear), 'dose')}."
    lost = len(clear) - wins
    return (
        f"{text} {PRESERVE.capitalize()} wins at {counted(wins, 'dose')}"
        f" and {'loses nowhere' if not lost else f'loses at {lost}'}."
    )


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _intended(row: LawDose) -> Interval:
    return row.intended_difference


def _surprise(row: LawDose) -> Interval:
    return row.surprise_difference


def _adherence(row: LawDose) -> Interval:
    return row.adherence_difference
