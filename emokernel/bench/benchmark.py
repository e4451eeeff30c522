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
from tqdm import tqdm
from transformers import PreTrainedModel, StaticCache

from emokernel.bench.cases import COMPILED, EAGER, GRAPH, Case, Variant
from emokernel.bench.compiling import NO_GPU, WARM_UP, obstacle
from emokernel.bench.decode import Decoding, Timing, random_prompt
from emokernel.bench.harness import interleaved
from emokernel.bench.memory import is_out_of_memory
from emokernel.bench.summary import Row, rows_of
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

OUT_OF_MEMORY = "out of memory"
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
    for variant in options.variants:
        required = variant.mode == GRAPH and variant.name in options.required
        if required and not torch.cuda.is_available():
            raise EmokernelError(f"{variant.name} cannot run here: {NO_GPU}")
    if options.new_tokens < 2:
        raise EmokernelError("--new-tokens must be at least 2: the first is the prompt's")


def bench(
    model: PreTrainedModel, vectors: EmotionVectors, cases: Sequence[Case], options: BenchOptions
) -> Iterator[MeasuredCase]:
    """Every case as it is finished.

    A KeyboardInterrupt comes through after the finished rounds of the running case were given.
    EmokernelError for what `check` refuses, and for a required variant that cannot run here.
    """
    check(cases, options, vectors)
    for _, group in groupby(cases, key=lambda case: (case.batch, case.context)):
        alike = list(group)
        variants = _Variants(model, vectors, alike[0], options)
        try:
            for case in alike:
                yield from variants.measured(case)
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
        self._obstacles: dict[str, str] = {}

    # Both are made when a variant is tried, so that what does not fit is told as its own.
    @cached_property
    def _prompt(self) -> Tensor:
        return random_prompt(self._model, self._case.batch, self._case.context)

    @cached_property
    def _static(self) -> StaticCache:
        return StaticCache(config=self._model.config, max_cache_len=self._columns)

    def measured(self, case: Case) -> Iterator[MeasuredCase]:
        timings: dict[str, list[Timing]] = {}
        stopped: dict[str, str] = {}
        interrupted = False
        try:
            if not self._decodings:
                self._prepare(case)
            for name, decoding in self._decodings.items():
                _unless_stopped(name, partial(decoding.ask, case), stopped)
            timed = {
                name: partial(_unless_stopped, name, decoding, stopped)
                for name, decoding in self._decodings.items()
            }
            bar = partial(tqdm, desc=str(case), leave=False, disable=not timed)
            rounds = self._options.rounds
            for read in interleaved(timed, rounds, _WARMUP, wrap=bar, clock=lambda call: call()):
                for name, timing in read.items():
                    if timing is not None:
                        timings.setdefault(name, []).append(timing)
        except KeyboardInterrupt:
            interrupted = True
        obstacles = self._obstacles | stopped
        rows = rows_of(case, self._options.variants, timings, obstacles, self._options.rounds)
        yield MeasuredCase(case, rows, timings)
        if interrupted:
            raise KeyboardInterrupt

    def _prepare(self, case: Case) -> None:
        """Run each variant once, which compiles and captures what is to be."""
        left = [v for v in self._options.variants if v.name not in self._obstacles]
        for variant in (bar := tqdm(left, leave=False)):
            slow = ": it compiles, which takes a minute" if variant.mode == COMPILED else ""
            bar.set_description(f"preparing batch {case.batch}, {variant.label}{slow}")
            if variant.again:  # the very same decoding, measured twice
                known = self._obstacles if variant.baseline in self._obstacles else self._decodings
                known[variant.name] = known[variant.baseline]
                continue
            try:
                self._decodings[variant.name] = self._tried(variant, case)
            except EmokernelError:
                raise
            except Exception as error:
                foreseen = obstacle(error)
                if foreseen is not None and variant.name in self._options.required:
                    raise EmokernelError(f"{variant.name} cannot run here: {foreseen}") from error
                self._obstacles[variant.name] = foreseen or _reason(error)

    def _tried(self, variant: Variant, case: Case) -> Decoding:
        if variant.mode == GRAPH and self._model.device.type != "cuda":
            raise RuntimeError(NO_GPU)
        decoding = Decoding(
            self._model, self._vectors, variant, self._prompt, self._options.new_tokens,
            slots=self._options.slots, compile_backend=self._options.compile_backend,
            static=None if variant.mode == EAGER else self._static,
        )  # fmt: skip
        decoding.ask(case)
        decoding()
        return decoding

    def free(self) -> None:
        """Let go of caches, graphs and what was compiled, of which torch keeps only so many."""
        self._decodings.clear()
        self.__dict__.pop("_static", None)
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
