"""From timings to what is told of them: a row of results for each variant of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median, quantiles

from emokernel.bench.cases import Case
from emokernel.bench.decode import Timing
from emokernel.bench.harness import PairedRatio, compare_to
from emokernel.bench.variants import OURS, PLAIN_HOOK, Variant

Row = dict[str, object]


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
        row: Row = {
            "variant": variant.name, "mode": variant.mode, **asdict(case),
        }  # fmt: skip
        measured = timings.get(variant.name)
        if not measured:
            rows.append({**row, "not_run": obstacles.get(variant.name, "interrupted")})
            continue
        row |= figures(measured, case.batch)
        row["token_ms_of_rounds"] = [1e3 * timing.step for timing in measured]
        if len(measured) < rounds:
            row["stopped"] = _stopped(
                obstacles.get(variant.name, "interrupted"), len(measured), rounds
            )
        noise = _against(timings, variant.baseline, variant.noise)
        if variant.again and noise is not None:
            row["noise"] = list(noise.spread())
        if variant.name != variant.baseline:
            row |= _ratio("ratio", _against(timings, variant.baseline, variant.name), noise)
            row["baseline"] = variant.baseline
        if variant.steering == OURS:
            hook = _hook_like(variant)
            row |= _ratio("over_" + hook, _against(timings, hook, variant.name), noise)
        rows.append(row)
    return rows


def _stopped(reason: str, done: int, rounds: int) -> str:
    kind, colon, details = reason.partition(":")
    return f"{kind} after {done} of {rounds} rounds{colon}{details}"


def _hook_like(variant: Variant) -> str:
    """The plain hook that is run in the same way."""
    return PLAIN_HOOK if variant.mode == "eager" else f"{variant.mode}_hook"


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
        f"{key}_told": ratio.in_words(noise),
    }
