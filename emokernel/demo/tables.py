"""What the demo prints: texts, and the figures of its main judge."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from emokernel.lab.evaluate.results import (
    BOTH,
    PROMPT,
    UNSTEERED,
    VECTOR,
    EmotionPoint,
    Interval,
    Results,
)

_MODES = (UNSTEERED, PROMPT, VECTOR)
_TITLES = {UNSTEERED: "unsteered", PROMPT: "by prefix", VECTOR: "by vector"}
_STATE_TITLES = {PROMPT: "by prefix", VECTOR: "by vector", BOTH: "by both"}


def samples(results: Results) -> str:
    """The same openings unsteered and under every emotion by vector."""
    lines = ["The same opening unsteered and under every emotion by vector:"]
    for sample in results.samples:
        lines.append("")
        for name, text in sample.texts.items():
            emotion, _, mode = name.partition(", by ")
            if mode != PROMPT:
                lines.append(f"  {emotion:<15}{text}")
    return "\n".join(lines)


def tables(results: Results) -> str:
    """Emotions, fluency and the twelve states, all at full strength."""
    points: dict[str, dict[str, EmotionPoint]] = {mode: {} for mode in _MODES}
    for point in results.emotions:
        points[point.mode][point.emotion] = point
    judge = results.about["judges"][0]["name"]
    return "\n\n".join([_emotions(points, judge), _fluency(points), _states(results, judge)])


def _emotions(points: Mapping[str, Mapping[str, EmotionPoint]], judge: str) -> str:
    intended = {
        mode: {emotion: point.measures.intended[judge] for emotion, point in by_emotion.items()}
        for mode, by_emotion in points.items()
    }
    lines = [
        "Judge's mean probability of the intended emotion (95 % interval over openings):",
        f"  {'':<15}" + "".join(f"{_TITLES[mode]:>22}" for mode in _MODES),
    ]
    for emotion in sorted(intended[VECTOR], key=lambda name: -intended[VECTOR][name].mean):
        cells = "".join(f"{_interval(intended[mode][emotion]):>22}" for mode in _MODES)
        lines.append(f"  {emotion:<15}{cells}")
    means = [mean(each.mean for each in intended[mode].values()) for mode in _MODES]
    return "\n".join([*lines, f"  {'mean':<15}" + "".join(f"{value:>22.2f}" for value in means)])


def _fluency(points: Mapping[str, Mapping[str, EmotionPoint]]) -> str:
    lines = [f"Fluency, mean over emotions: {'distinct-3':>12}{'perplexity':>12}"]
    for mode, by_emotion in points.items():
        distinct = mean(point.measures.distinct["3"] for point in by_emotion.values())
        perplexity = mean(point.measures.perplexity for point in by_emotion.values())
        lines.append(f"  {_TITLES[mode]:<27}{distinct:>12.3f}{perplexity:>12.1f}")
    return "\n".join(lines)


def _states(results: Results, judge: str) -> str:
    rows = [row for row in results.consistency if row.judge == judge]
    by_mode = {mode: row for mode in _STATE_TITLES for row in rows if row.mode == mode}
    lines = [
        "12 states of the circumplex: mean cosine between what was asked for and the label that the"
        " judge",
        "gives the text, 0 for a label without a place (neutral):",
        f"  {'':<15}" + "".join(f"{_STATE_TITLES[mode]:>22}" for mode in by_mode),
    ]
    for number, state in enumerate(rows[0].states):
        cells = "".join(f"{_interval(row.states[number].cosine):>22}" for row in by_mode.values())
        lines.append(f"  {f'{state.angle:.0f} degrees':<15}{cells}")
    means = "".join(f"{_interval(row.cosine):>22}" for row in by_mode.values())
    pooled = "".join(f"{row.pooled:>22.2f}" for row in by_mode.values())
    floor = by_mode[VECTOR].floor
    lines += [f"  {'mean':<15}{means}", f"  {'pooled':<15}{pooled}"]
    lines.append(f"  floor (shuffled states): {floor.low:+.2f} to {floor.high:+.2f}")
    for each in results.ceilings:
        if each.judge == judge:
            labels = "all labels" if each.least == 1 else f"labels with {each.least} texts or more"
            lines.append(f"  ceiling (human text, {labels}): {each.cosine.mean:.2f}")
    return "\n".join(lines)


def _interval(value: Interval) -> str:
    return f"{value.mean:.2f} ({value.low:.2f}..{value.high:.2f})"
