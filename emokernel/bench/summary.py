"""What is printed of a case: a table, what else is compared, and what the noise allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emokernel.bench.cases import Case
from emokernel.bench.harness import FEWEST_ROUNDS
from emokernel.bench.results import Row
from emokernel.bench.variants import EAGER, VARIANTS, in_words

_BELOW = {"first_ratio": "first token", "throughput_ratio": "tokens/s"}


def table(case: Case, rows: Sequence[Row]) -> str:
    """A headline, one line for each variant, and what is told of ratios; times in ms."""
    missing = {row.get("not_run") for row in rows}
    if len(missing) == 1 and None not in missing:
        return f"{case}: {missing.pop()}"
    baselines = {row["baseline"] for row in rows}
    of = in_words(min(baselines, key=len))  # other modes are compared with their own
    against = "the unpatched model" if of == "unpatched" else of
    lines = [
        f"{case}{_how_long(rows)}:",
        f"  {'':<26}{'first':>9}{'median':>10}{'p90':>9}{'p99':>9}{'tokens/s':>10}"
        f"  time per token against {against}",
    ]
    reasons = {row.get("stopped") for row in rows if "rounds" in row}
    together = [f"  {reason}" for reason in reasons if reason and len(reasons) == 1]
    for row in rows:
        variant = VARIANTS[row["variant"]]
        name = f"  {variant.label:<26}"
        if "not_run" in row:
            if not variant.again:  # the baseline's own line says it
                lines.append(f"{name}not run: {row['not_run']}")
            continue
        lines.append(
            f"{name}{row['first_ms']:>9.3f}{row['token_ms']:>10.3f}{row['token_ms_p90']:>9.3f}"
            f"{row['token_ms_p99']:>9.3f}{row['tokens_per_second']:>10.1f}  {_told(row)}".rstrip()
        )
        if "stopped" in row and not together:
            lines.append(f"  {'':<26}{row['stopped']}")
    return "\n".join([*lines, *together, *_beside(rows), *_resolution(rows)])


def resolution(rows: Sequence[Row]) -> float | None:
    """The smallest difference of the time per token that each variant of a case could show."""
    return max((row["resolution"] for row in rows if "resolution" in row), default=None)


def _how_long(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if "rounds" in row]
    if not measured:
        return ""
    rounds = max(row["rounds"] for row in measured)
    return f"; {rounds} rounds of {measured[0]['new_tokens']} tokens"


def _told(row: Row) -> str:
    if VARIANTS[row["variant"]].again and "noise" in row:
        low, high = row["noise"]
        return f"noise: {low:.3f} to {high:.3f}"
    if "ratio_told" not in row:
        return ""
    other = VARIANTS[row["baseline"]].mode
    if row["mode"] != other:
        return f"{row['ratio_told']}, {row['mode']} against {other}"
    return row["ratio_told"] + ("" if other == EAGER else f", {other} too")


def _beside(rows: Sequence[Row]) -> list[str]:
    """Lines of what is compared beside the time per token against the baseline."""
    lines = []
    for row in rows:
        variant = VARIANTS[row["variant"]]
        if told := row.get(f"over_{variant.hook}_told"):
            lines.append(f"  {variant.label} against the {in_words(variant.hook)}: {told}")
    for key, quantity in _BELOW.items():
        told = [
            f"{in_words(row['variant'])} {row[f'{key}_told']}"
            for row in rows
            if f"{key}_told" in row and not VARIANTS[row["variant"]].again
        ]
        if told:
            lines.append(f"  {quantity}: {'; '.join(told)}")
    return lines


def _resolution(rows: Sequence[Row]) -> list[str]:
    least = resolution(rows)
    if least is not None:
        return [f"  differences below {100 * least:.1f} % cannot be seen with these rounds"]
    if any("rounds" in row for row in rows):
        return ["  too few rounds to see any difference"]
    return []


def missed(done: Mapping[Case, Sequence[Row]], precision: float) -> list[str]:
    """A line for each case that is not as precise as asked, and by how much."""
    lines = []
    for case, rows in done.items():
        wide = [
            f"{in_words(row['variant'])} {row['half_width']:.3f}"
            for row in rows
            if row.get("half_width", 0.0) > precision
        ]
        short = any("rounds" in row and row["rounds"] < FEWEST_ROUNDS for row in rows)
        told = ", ".join(wide) or ("too few rounds for an interval" if short else "")
        if told:
            lines.append(f"wider than {precision:g} to either side: {case}: {told}")
    return lines
