"""From timings to rows of results: figures of each variant, and ratios where the noise allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median, quantiles
from typing import Any

from emokernel.bench.cases import Case
from emokernel.bench.decode import Timing
from emokernel.bench.harness import FEWEST_ROUNDS, PairedRatio, compare_to
from emokernel.bench.variants import Variant

Row = dict[str, Any]
Timings = Mapping[str, Sequence[Timing]]

# What is compared, by the key of its ratio. Tokens per second are the inverse of the whole time.
_QUANTITIES: dict[str, Callable[[Timing], float]] = {
    "ratio": lambda timing: timing.step,
    "first_ratio": lambda timing: timing.first,
    "throughput_ratio": lambda timing: 1 / timing.total,
}


def figures(timings: Sequence[Timing], batch: int) -> Row:
    """Milliseconds until the first token and per token after it, and tokens per second."""
    steps = [1e3 * step for timing in timings for step in timing.steps]
    cuts = quantiles(steps, n=100, method="inclusive") if len(steps) > 1 else steps * 99
    tokens = 1 + len(timings[0].steps)
    return {
        "rounds": len(timings),
        "new_tokens": tokens,
        "first_ms": median(1e3 * timing.first for timing in timings),
        "token_ms": median(steps),
        "token_ms_p90": cuts[89],
        "token_ms_p99": cuts[98],
        "tokens_per_second": batch * tokens / median(timing.total for timing in timings),
    }


def rows_of(
    case: Case,
    variants: Sequence[Variant],
    timings: Timings,
    obstacles: Mapping[str, str],
    rounds: int,
    otherwise: str = "interrupted",
) -> list[Row]:
    """A row for each variant: its figures and ratios, or why there are none.

    ``rounds``: as many as there should be; "stopped" says why a variant has fewer, ``otherwise``
    where no obstacle is known.

    Ratios are paired by round, against the variant's baseline: of the time per token ("ratio") and
    to the first one ("first_ratio"), and of the tokens per second ("throughput_ratio"); of
    emokernel also the time per token against the hook that does the same ("over_plain_hook").
    A ratio, ``[ratio, low, high]``, is there only where it is seen outside of the noise; its
    interval and what may be told of it in words are there always. "half_width": that of the widest
    interval of the time per token. "resolution": smaller differences of it cannot be seen.
    """
    rows: list[Row] = []
    for variant in variants:
        row: Row = {"variant": variant.name, "mode": variant.mode, **asdict(case)}
        row["baseline"] = variant.baseline
        rows.append(row)
        measured, reason = timings.get(variant.name), obstacles.get(variant.name, otherwise)
        if not measured:
            row["not_run"] = reason
            continue
        row |= figures(measured, case.batch)
        row["token_ms_of_rounds"] = [1e3 * timing.step for timing in measured]
        if len(measured) < rounds:
            kind, colon, details = reason.partition(":")
            row["stopped"] = f"{kind} after {len(measured)} of {rounds} rounds{colon}{details}"
        for key, of in _QUANTITIES.items():
            noise = _against(timings, variant.baseline, variant.noise, of)
            if variant.again and noise is not None:
                row[key.replace("ratio", "noise")] = list(noise.spread())
            if variant.name != variant.baseline:
                row |= _ratio(key, _against(timings, variant.baseline, variant.name, of), noise)
        if variant.hook and variant.hook != variant.baseline:
            of = _QUANTITIES["ratio"]
            noise = _against(timings, variant.baseline, variant.noise, of)
            against = _against(timings, variant.hook, variant.name, of)
            row |= _ratio(f"over_{variant.hook}", against, noise)
        row |= _widths(variant, timings)
    return rows


def half_widths(variants: Sequence[Variant], timings: Timings) -> dict[str, float]:
    """By variant, the half of its widest interval of a ratio of times per token.

    Infinite below the fewest rounds that have an interval; without variants that have no ratio.
    """
    found = {variant.name: list(_intervals(variant, timings)) for variant in variants}
    return {name: max(map(half_width, ratios)) for name, ratios in found.items() if ratios}


def half_width(ratio: PairedRatio) -> float:
    """Of its interval; infinite where there are too few rounds for one."""
    return (ratio.high - ratio.low) / 2 if ratio.rounds >= FEWEST_ROUNDS else float("inf")


def _intervals(variant: Variant, timings: Timings) -> Iterator[PairedRatio]:
    bases = {variant.baseline, variant.hook} - {variant.name, None}
    for base in bases:
        ratio = _against(timings, base, variant.name, _QUANTITIES["ratio"])
        if ratio is not None:
            yield ratio


def _widths(variant: Variant, timings: Timings) -> Row:
    ratios = list(_intervals(variant, timings))
    if not ratios or min(ratio.rounds for ratio in ratios) < FEWEST_ROUNDS:
        return {}
    widest = max(map(half_width, ratios))
    noise = _against(timings, variant.baseline, variant.noise, _QUANTITIES["ratio"])
    edge = noise.spread()[1] - 1 if noise is not None else 0.0
    return {"half_width": widest, "resolution": max(widest, edge)}


def _against(
    timings: Timings, baseline: str, name: str, of: Callable[[Timing], float]
) -> PairedRatio | None:
    """The ratio of a quantity in every round that both have."""
    pair = timings.get(baseline), timings.get(name)
    if not all(pair):
        return None
    both = min(map(len, pair))
    return compare_to(*([of(timing) for timing in times[:both]] for times in pair))


def _ratio(key: str, ratio: PairedRatio | None, noise: PairedRatio | None) -> Row:
    if ratio is None:
        return {}
    seen = ratio.is_seen(noise)
    told = {
        f"{key}_interval": [ratio.low, ratio.high],
        f"{key}_seen": seen,
        f"{key}_told": ratio.in_words(noise),
    }
    return told | ({key: [ratio.ratio, ratio.low, ratio.high]} if seen else {})
