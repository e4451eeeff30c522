"""The results of a case as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from emokernel.bench.cases import Case
from emokernel.bench.summary import Row
from emokernel.bench.variants import VARIANTS

_HEAD = (
    f"  {'':<26}{'first':>9}{'median':>10}{'p90':>9}{'p99':>9}{'tokens/s':>10}"
    "  time per token against the unpatched model"
)


def table(case: Case, rows: Sequence[Row]) -> str:
    """A headline, one line for each variant, and emokernel against the hook; times in ms."""
    lines = [f"{case}:", _HEAD]
    beside = []
    for row in rows:
        variant = VARIANTS[row["variant"]]
        name = variant.label
        if "not_run" in row:
            if not variant.again:  # the baseline's own line says it
                lines.append(f"  {name:<26}not run: {row['not_run']}")
            continue
        lines.append(
            f"  {name:<26}{row['first_ms']:>9.3f}{row['token_ms']:>10.3f}"
            f"{row['token_ms_p90']:>9.3f}{row['token_ms_p99']:>9.3f}"
            f"{row['tokens_per_second']:>10.1f}  {_against(row)}".rstrip()
        )
        if "stopped" in row:
            lines.append(f"  {'':<26}{row['stopped']}")
        beside += [
            f"  {name} against the {hook.replace('_', ' ')}: {row[f'over_{hook}_told']}"
            for hook in ("plain_hook", "compiled_hook")
            if f"over_{hook}_told" in row
        ]
    return "\n".join(lines + beside)


def _against(row: Row) -> str:
    if "ratio_told" not in row:
        return ""
    if VARIANTS[row["variant"]].again:
        low, high = row["noise"]
        return f"noise: {low:.3f} to {high:.3f}"
    mode = "" if row["mode"] == "eager" else f", {row['mode']} too"
    return f"{row['ratio_told']}{mode}"
