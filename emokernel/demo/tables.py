"""What the demo prints: texts, and the figures of its main judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from emokernel.lab.evaluate.results import BOTH, PROMPT, UNSTEERED, VECTOR, Interval, Results

_TITLES = {
    UNSTEERED: "unsteered", PROMPT: "by prefix", VECTOR: "by vector", BOTH: "by both",
}  # fmt: skip


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
    """Emotions with their fluency, and the twelve states, all at full strength."""
    judge = results.about["judges"][0]["name"]
    return f"{_emotions(results, judge)}\n\n{_states(results, judge)}"


def _emotions(results: Results, judge: str) -> str:
    modes = UNSTEERED, PROMPT, VECTOR
    of = {
        mode: {point.emotion: point.measures for point in results.emotions if point.mode == mode}
        for mode in modes
    }
    strongest = sorted(of[VECTOR], key=lambda name: -of[VECTOR][name].intended[judge].mean)
    rows = [(name, [_interval(of[mode][name].intended[judge]) for mode in modes])
            for name in strongest]  # fmt: skip
    for title, value in (
        ("mean", lambda each: each.intended[judge].mean),
        ("distinct-3", lambda each: each.distinct["3"]),
        ("perplexity", lambda each: each.perplexity),
    ):
        rows.append((title, [f"{mean(map(value, of[mode].values())):.2f}" for mode in modes]))
    return _table(
        "Judge's mean probability of the intended emotion (95 % interval over openings), and the"
        " fluency:",
        modes, rows,
    )  # fmt: skip


def _states(results: Results, judge: str) -> str:
    of = {row.mode: row for row in results.consistency if row.judge == judge}
    modes = PROMPT, VECTOR, BOTH
    rows = [
        (f"{state.angle:.0f} degrees",
         [_interval(of[mode].states[number].cosine) for mode in modes])
        for number, state in enumerate(of[VECTOR].states)
    ]  # fmt: skip
    rows.append(("mean", [_interval(of[mode].cosine) for mode in modes]))
    rows.append(("pooled", [f"{of[mode].pooled:.2f}" for mode in modes]))
    title = (
        "12 states of the circumplex: mean cosine between what was asked for and the label that the"
        " judge\ngives the text, 0 for a label without a place (neutral):"
    )
    floor = of[VECTOR].floor
    lines = [_table(title, modes, rows)]
    lines.append(f"  floor (shuffled states): {floor.low:+.2f} to {floor.high:+.2f}")
    for each in results.ceilings:
        if each.judge == judge:
            labels = "all labels" if each.least == 1 else f"labels with {each.least} texts or more"
            lines.append(f"  ceiling (human text, {labels}): {each.cosine.mean:.2f}")
    return "\n".join(lines)


def _table(title: str, modes: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    lines = [("", [_TITLES[mode] for mode in modes]), *rows]
    cells = (f"  {name:<15}" + "".join(f"{cell:>22}" for cell in row) for name, row in lines)
    return "\n".join([title, *cells])


def _interval(value: Interval) -> str:
    return f"{value.mean:.2f} ({value.low:.2f}..{value.high:.2f})"
