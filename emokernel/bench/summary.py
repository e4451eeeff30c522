"""From timings to what is told of them: a row of results for each variant, lines, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from emokernel.atomic import save_figure
from emokernel.bench.cases import EAGER, OURS, VARIANTS, Case, Variant
from emokernel.bench.decode import Timing
from emokernel.bench.harness import PairedRatio, compare_to
from emokernel.extras import need

Row = dict[str, Any]

_COLOURS = {
    "nothing": "#8d99a6",
    "hook_add": "#e8a33d",
    "hook": "#c8553d",
    "emokernel": "#1d5a94",
}


def figures(timings: Sequence[Timing], batch: int) -> Row:
    """Milliseconds until the first token and per token after it, and tokens per second."""
    steps = [1e3 * step for timing in timings for step in timing.steps]
    cuts = quantiles(steps, n=100, method="inclusive") if len(steps) > 1 else steps * 99
    tokens = batch * (1 + len(timings[0].steps))
    return {
        "rounds": len(timings),
        "first_ms": median(1e3 * timing.first for timing in timings),
        "token_ms": median(steps),
        "token_ms_p90": cuts[89],
        "token_ms_p99": cuts[98],
        "tokens_per_second": tokens / median(timing.total for timing in timings),
    }


def rows_of(
    case: Case,
    variants: Sequence[Variant],
    timings: Mapping[str, Sequence[Timing]],
    obstacles: Mapping[str, str],
    rounds: int,
) -> list[Row]:
    """A row for each variant: its figures and ratios, or why there are none.

    ``rounds``: as many as were asked for; "stopped" says why a variant has fewer.

    Ratios are of the time per token, paired by round, against the unpatched model run in the same
    way ("ratio") and, of emokernel in eager mode, against the plain hook ("over_plain_hook").
    """
    rows: list[Row] = []
    for variant in variants:
        row: Row = {"variant": variant.name, "mode": variant.mode, **asdict(case)}
        rows.append(row)
        measured, reason = timings.get(variant.name), obstacles.get(variant.name, "interrupted")
        if not measured:
            row["not_run"] = reason
            continue
        row |= figures(measured, case.batch)
        row["token_ms_of_rounds"] = [1e3 * timing.step for timing in measured]
        if len(measured) < rounds:
            kind, colon, details = reason.partition(":")
            row["stopped"] = f"{kind} after {len(measured)} of {rounds} rounds{colon}{details}"
        noise = _against(timings, variant.baseline, variant.noise)
        if variant.again and noise is not None:
            row["noise"] = list(noise.spread())
        if variant.name != variant.baseline:
            row |= _ratio("ratio", _against(timings, variant.baseline, variant.name), noise)
            row["baseline"] = variant.baseline
        if variant.steering == OURS:
            against = _against(timings, variant.hook, variant.name)
            row |= _ratio(f"over_{variant.hook}", against, noise)
    return rows


def _against(
    timings: Mapping[str, Sequence[Timing]], baseline: str, name: str
) -> PairedRatio | None:
    """The ratio of the times per token of every round that both have."""
    pair = timings.get(baseline), timings.get(name)
    if not all(pair):
        return None
    both = min(map(len, pair))
    return compare_to(*([timing.step for timing in times[:both]] for times in pair))


def _ratio(key: str, ratio: PairedRatio | None, noise: PairedRatio | None) -> Row:
    if ratio is None:
        return {}
    return {
        key: [ratio.ratio, ratio.low, ratio.high],
        f"{key}_seen": ratio.is_seen(noise),
        f"{key}_told": ratio.in_words(noise),
    }


def table(case: Case, rows: Sequence[Row]) -> str:
    """A headline, one line for each variant, and emokernel against the hook; times in ms."""
    lines = [
        f"{case}:",
        f"  {'':<26}{'first':>9}{'median':>10}{'p90':>9}{'p99':>9}{'tokens/s':>10}"
        "  time per token against the unpatched model",
    ]
    beside = []
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
        if "stopped" in row:
            lines.append(f"  {'':<26}{row['stopped']}")
        if told := row.get(f"over_{variant.hook}_told"):
            hook = variant.hook.replace("_", " ")
            beside.append(f"  {variant.label} against the {hook}: {told}")
    return "\n".join(lines + beside)


def _told(row: Row) -> str:
    if VARIANTS[row["variant"]].again and "noise" in row:
        low, high = row["noise"]
        return f"noise: {low:.3f} to {high:.3f}"
    mode = "" if row["mode"] == EAGER else f", {row['mode']} too"
    return f"{row['ratio_told']}{mode}" if "ratio_told" in row else ""


def latency(path: Path, rows: Sequence[Row], title: str) -> None:
    """Time per token of each variant of a case, by round, and its ratio where one is told."""
    rows = [row for row in rows if "token_ms" in row]
    size = 8, 0.8 + 0.75 * len(rows)
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    boxes = axes.boxplot(
        [row["token_ms_of_rounds"] for row in rows], orientation="horizontal", whis=(5, 95),
        showfliers=False, widths=0.5, patch_artist=True,
        boxprops={"edgecolor": "0.4"}, medianprops={"color": "black", "linewidth": 2},
    )  # fmt: skip
    for box, row in zip(boxes["boxes"], rows, strict=True):
        box.set_facecolor(_COLOURS[VARIANTS[row["variant"]].steering])
        box.set_alpha(0.6)
    axes.set_yticks(range(1, len(rows) + 1), [_label(row) for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="ms per token (box: quartiles, whiskers: 5 to 95 %)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=120)


def _label(row: Row) -> str:
    times = row["token_ms_of_rounds"]
    label = f"{VARIANTS[row['variant']].label}\n{sorted(times)[len(times) // 2]:.3g} ms"
    if "ratio" not in row:
        return label
    return f"{label}, " + (f"{row['ratio'][0]:.2f}x" if row["ratio_seen"] else "no difference")
