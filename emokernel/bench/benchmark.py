"""The bench: every variant in every case, interleaved, with what could not run told by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from emokernel.bench.box import Box
from emokernel.bench.cases import Case
from emokernel.bench.compiling import NO_GPU
from emokernel.bench.prepared import FAILED, OTHER_WORK, BenchOptions, Prepared
from emokernel.bench.results import Row
from emokernel.bench.sweeping import MeasuredCase, Sweeping
from emokernel.bench.variants import GRAPH
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

__all__ = ["BenchOptions", "MeasuredCase", "bench", "check", "failed"]


def check(
    cases: Sequence[Case], options: BenchOptions, vectors: EmotionVectors | None = None
) -> None:
    """EmokernelError for what cannot be measured (with ``vectors``), before anything is."""
    for case in cases:
        if case.distinct > options.slots:
            raise EmokernelError(
                f"{case}: {case.distinct} different mixes, but there are {options.slots} slots: use"
                " a larger --slots"
            )
        if vectors is not None:
            case.check(vectors.names)
            case.steered_layers(vectors)
    for variant in options.variants:
        needed = variant.mode == GRAPH and variant.name in options.required
        if needed and not torch.cuda.is_available():
            raise EmokernelError(f"{variant.name} cannot run here: {NO_GPU}")
        if variant.is_hooked and options.site != "block":
            raise EmokernelError(f"{variant.name} is other work than asked: {OTHER_WORK}")
    if options.new_tokens < 2:
        raise EmokernelError("--new-tokens must be at least 2: the first is the prompt's")


def bench(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    cases: Sequence[Case],
    options: BenchOptions,
    box: Box | None = None,
) -> Iterator[MeasuredCase]:
    """Every case as it is finished; in a ``box`` of time again, with all, when it has more rounds.

    A KeyboardInterrupt comes through after the finished rounds of the running case were given.
    EmokernelError for what `check` refuses, and for a required variant that cannot run here.
    """
    check(cases, options, vectors)

    def prepare(case: Case, tokens: int) -> Prepared:
        return Prepared(model, vectors, case, options, tokens)

    yield from Sweeping(prepare, cases, options, box or Box()).run()


def failed(rows: Iterable[Row]) -> bool:
    """Whether a variant failed for a reason that nobody foresaw."""
    reasons = (str(row.get(key, "")) for row in rows for key in ("not_run", "stopped"))
    return any(reason.startswith(FAILED) for reason in reasons)
