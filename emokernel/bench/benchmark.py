"""The bench: every variant in every case, interleaved, with what could not run told by name."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache

from emokernel.bench.cases import Case
from emokernel.bench.compiling import obstacle
from emokernel.bench.decode import Decoding, Steered, Timing, random_prompt
from emokernel.bench.gpu import WARM_UP
from emokernel.bench.harness import interleaved
from emokernel.bench.memory import batch_bytes, is_out_of_memory, refusal
from emokernel.bench.summary import Row, rows_of
from emokernel.bench.variants import COMPILED, EAGER, GRAPH, Variant
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

OUT_OF_MEMORY = "out of memory"
NO_GPU = "no GPU"
_FAILED = "failed"
_WARMUP = 2
T = TypeVar("T")


@dataclass(frozen=True)
class BenchOptions:
    """How the cases are measured.

    ``required``: variants that were asked for by name; one that this machine has not got what it
    takes for is an error, any other is a row that says so.
    """

    variants: tuple[Variant, ...]
    new_tokens: int = 16
    rounds: int = 20
    slots: int = 256
    compile_backend: str = "inductor"
    required: frozenset[str] = frozenset()


@dataclass
class MeasuredCase:
    """One finished case (or what there is of it): its rows, and its timings by variant."""

    case: Case
    rows: list[Row]
    timings: dict[str, list[Timing]]


Wrap = Callable[[Iterable[int], str], Iterable[int]]


def check(cases: Sequence[Case], vectors: EmotionVectors, options: BenchOptions) -> None:
    """EmokernelError for what cannot be measured with these vectors, before anything is."""
    check_options(cases, options)
    for case in cases:
        case.check(vectors.names)


def check_options(cases: Sequence[Case], options: BenchOptions) -> None:
    """EmokernelError for what cannot be measured, whatever the model and its vectors are."""
    for case in cases:
        if case.distinct > options.slots:
            raise EmokernelError(
                f"{case}: {case.distinct} different mixes, but there are {options.slots} slots: use"
                " a larger --slots"
            )
    for variant in options.variants:
        required = variant.mode == GRAPH and variant.name in options.required
        if required and not torch.cuda.is_available():
            raise EmokernelError(f"{variant.name} cannot run here: {NO_GPU}")
    if options.new_tokens < 2:
        raise EmokernelError("--new-tokens must be at least 2: the first is the prompt's")


def bench(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    cases: Sequence[Case],
    options: BenchOptions,
    wrap: Wrap = lambda rounds, _: rounds,
) -> Iterator[MeasuredCase]:
    """Every case as it is finished. ``wrap(rounds, what is done)`` shows the progress.

    A KeyboardInterrupt comes through after the finished rounds of the running case were given.
    EmokernelError for what `check` refuses, and for a required variant that cannot run here.
    """
    check(cases, vectors, options)
    for (_, _), group in groupby(cases, key=lambda case: (case.batch, case.context)):
        of_group = list(group)
        variants = _Variants(model, vectors, of_group[0], options)
        try:
            for case in of_group:
                yield from variants.measured(case, wrap)
        finally:
            variants.free()


class _Variants:
    """The variants at one batch size and context; made when first used, all cases after that."""

    def __init__(
        self, model: PreTrainedModel, vectors: EmotionVectors, case: Case, options: BenchOptions
    ) -> None:
        self._model, self._vectors, self._options = model, vectors, options
        self._case = case
        # Before a graph is captured, its step runs a few times behind the prompt.
        self._columns = case.context + max(options.new_tokens, WARM_UP + 2)
        self._decodings: dict[str, Decoding] = {}
        self.obstacles: dict[str, str] = {}
        self._static: StaticCache | None = None
        self._made: dict[tuple[str, str], Decoding] = {}
        caches = 2 if any(v.mode != EAGER for v in options.variants) else 1
        needed = batch_bytes(model, case.batch, case.context, self._columns, caches)
        problem = refusal(needed, model.device, f"the cache, prompt and logits of {case}")
        if problem is not None:
            self.obstacles = {v.name: f"{OUT_OF_MEMORY}: {problem}" for v in options.variants}

    @cached_property
    def _prompt(self) -> Tensor:
        """Made when first used, which is after what does not fit was refused."""
        return random_prompt(self._model, self._case.batch, self._case.context)

    def measured(self, case: Case, wrap: Wrap) -> Iterator[MeasuredCase]:
        timings: dict[str, list[Timing]] = {}
        stopped: dict[str, str] = {}
        interrupted = False
        try:
            if not self._decodings:
                self._prepare(case, wrap)
            for name, decoding in self._decodings.items():
                _unless_stopped(name, partial(decoding.steered.ask, case), stopped)
            timed = {
                name: partial(_unless_stopped, name, decoding, stopped)
                for name, decoding in self._decodings.items()
            }
            if timed:
                rounds = interleaved(
                    timed, self._options.rounds, _WARMUP,
                    wrap=lambda rounds: wrap(rounds, str(case)), clock=lambda call: call(),
                )  # fmt: skip
                for read in rounds:
                    for name, timing in read.items():
                        if timing is not None:
                            timings.setdefault(name, []).append(timing)
        except KeyboardInterrupt:
            interrupted = True
        obstacles = self.obstacles | stopped
        rows = rows_of(case, self._options.variants, timings, obstacles, self._options.rounds)
        yield MeasuredCase(case, rows, timings)
        if interrupted:
            raise KeyboardInterrupt

    def _prepare(self, case: Case, wrap: Wrap) -> None:
        """Run each variant once, which compiles and captures what is to be."""
        left = [v for v in self._options.variants if v.name not in self.obstacles]
        for number in wrap(range(len(left)), f"preparing batch {case.batch}"):
            variant = left[number]
            problem = self._obstacle(variant)
            if problem is None:
                try:
                    decoding = self._decoding(variant)
                    decoding.steered.ask(case)
                    decoding()
                except EmokernelError:
                    raise
                except Exception as error:
                    problem = self._reason(variant, error)
                else:
                    self._decodings[variant.name] = decoding
            if problem is not None:
                self.obstacles[variant.name] = problem

    def _obstacle(self, variant: Variant) -> str | None:
        if variant.mode == GRAPH and self._model.device.type != "cuda":
            return self._required(variant, NO_GPU)
        if variant.again and variant.baseline in self.obstacles:
            return self.obstacles[variant.baseline]
        return None

    def _reason(self, variant: Variant, error: Exception) -> str:
        missing = obstacle(error)
        return _reason(error) if missing is None else self._required(variant, missing)

    def _required(self, variant: Variant, problem: str) -> str:
        if variant.name in self._options.required:
            raise EmokernelError(f"{variant.name} cannot run here: {problem}")
        return problem

    def _decoding(self, variant: Variant) -> Decoding:
        """The second measurement of a baseline times the very same decoding, but in eager mode."""
        key = variant.steering, variant.mode
        if variant.again and variant.mode != EAGER and key in self._made:
            return self._made[key]
        if variant.mode != EAGER and self._static is None:
            self._static = StaticCache(config=self._model.config, max_cache_len=self._columns)
        steered = Steered(
            self._model, self._vectors, variant.steering, self._case.batch, self._options.slots
        )
        self._made[key] = Decoding(
            steered, self._prompt, self._options.new_tokens, variant.mode,
            static=None if variant.mode == EAGER else self._static,
            compile_backend=self._options.compile_backend,
        )  # fmt: skip
        return self._made[key]

    def free(self) -> None:
        """Let go of caches, graphs and what was compiled, of which torch keeps only so many."""
        self._decodings.clear()
        self._made.clear()
        self._static = None
        if any(variant.mode == COMPILED for variant in self._options.variants):
            torch.compiler.reset()
        gc.collect()
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()


def failed(rows: Iterable[Row]) -> bool:
    """Whether a variant failed for a reason that nobody foresaw."""
    reasons = (str(row.get(key, "")) for row in rows for key in ("not_run", "stopped"))
    return any(reason.startswith(_FAILED) for reason in reasons)


def _unless_stopped(name: str, call: Callable[[], T], stopped: dict[str, str]) -> T | None:
    """What ``call`` gives; None if it fails, which is noted in ``stopped``, and from then on."""
    if name in stopped:
        return None
    try:
        return call()
    except Exception as error:  # whatever it is, the other variants are still worth having
        stopped[name] = _reason(error)
        return None


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    return f"{_FAILED}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
