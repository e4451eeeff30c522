"""The check of time: steering by emokernel is not slower than by plain hooks."""

from __future__ import annotations

from emokernel.bench.benchmark import BenchOptions, bench
from emokernel.bench.cases import Case
from emokernel.bench.harness import compare_to
from emokernel.bench.variants import (
    EMOKERNEL,
    PLAIN_HOOK,
    PLAIN_HOOK_ADD,
    UNPATCHED,
    with_baselines,
)
from emokernel.verify.subject import Failed, Subject

_ROUNDS, _TOKENS, _CONTEXT = 20, 9, 32


def speed(subject: Subject) -> str:
    """Time per token, paired by round, against the unpatched model and the plain hooks."""
    subject.require_cache()
    variants = with_baselines([PLAIN_HOOK_ADD, PLAIN_HOOK, EMOKERNEL])
    options = BenchOptions(tuple(variants), new_tokens=_TOKENS, rounds=_ROUNDS, slots=1)
    (measured,) = bench(subject.model, subject.vectors, [Case(1, _CONTEXT)], options)
    for row in measured.rows:
        if "not_run" in row:
            raise Failed(f"{row['variant']}: {row['not_run']}")
    steps = {name: [t.step for t in timings] for name, timings in measured.timings.items()}
    ours = steps[EMOKERNEL]
    noise = compare_to(steps[UNPATCHED], steps[f"{UNPATCHED}_again"])
    against = {
        name: compare_to(steps[name], ours) for name in (UNPATCHED, PLAIN_HOOK, PLAIN_HOOK_ADD)
    }
    summary = "; ".join(
        f"against {name.replace('_', ' ')}: {ratio.in_words(noise)}"
        for name, ratio in against.items()
    )
    (row,) = [row for row in measured.rows if row["variant"] == EMOKERNEL]
    summary = f"{row['token_ms']:.3f} ms per token; {summary}"
    hook = against[PLAIN_HOOK]
    if hook.is_seen(noise) and hook.ratio > 1:
        raise Failed(summary)
    return summary
