"""The variants at one batch size, context and layers: made when first used, alike for all cases."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, StaticCache

from emokernel.bench.cases import Case
from emokernel.bench.compiling import NO_GPU, WARM_UP, obstacle
from emokernel.bench.decode import Decoding, Timing, random_prompt
from emokernel.bench.memory import is_out_of_memory
from emokernel.bench.variants import COMPILED, EAGER, GRAPH, Variant
from emokernel.choices import SiteName
from emokernel.errors import EmokernelError
from emokernel.vectors import EmotionVectors

OUT_OF_MEMORY = "out of memory"
FAILED = "failed"
OTHER_WORK = "a plain hook cannot restore a norm behind the attention branch; --site block"
T = TypeVar("T")


@dataclass(frozen=True)
class BenchOptions:
    """How the cases are measured.

    ``required``: variants that were asked for by name; one that this machine has not got what it
    takes for is an error, any other is a row that says so. ``precision``: the half-width of the
    interval of a ratio up to which rounds are added, to at most ten times ``rounds``. ``site``:
    where emokernel steers; hooks do the same work at "block" only.
    """

    variants: tuple[Variant, ...]
    new_tokens: int = 16
    rounds: int = 20
    slots: int = 256
    compile_backend: str = "inductor"
    required: frozenset[str] = frozenset()
    precision: float | None = None
    site: SiteName = "block"


def prepared_for(case: Case) -> Hashable:
    """What cases have in common that are run by the same `Prepared`."""
    return case.batch, case.context, case.layers


class Prepared:
    """The variants, each run once with ``tokens`` new ones, which compiles what is to be.

    ``obstacles``: why those that are missing cannot run. EmokernelError for a required one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vectors: EmotionVectors,
        case: Case,
        options: BenchOptions,
        tokens: int,
    ) -> None:
        self._model, self._vectors, self._options = model, vectors, options
        self._case, self._tokens = case, tokens
        # Before a graph is captured, its step runs a few times behind the prompt.
        self._columns = case.context + max(options.new_tokens, WARM_UP + 2)
        self._decodings: dict[str, Decoding] = {}
        self.obstacles: dict[str, str] = {}
        self._prepare()

    @property
    def names(self) -> list[str]:
        """The variants that can run."""
        return list(self._decodings)

    # Both are made when a variant is tried, so that what does not fit is told as its own.
    @cached_property
    def _prompt(self) -> Tensor:
        return random_prompt(self._model, self._case.batch, self._case.context)

    @cached_property
    def _static(self) -> StaticCache:
        return StaticCache(config=self._model.config, max_cache_len=self._columns)

    def ask(self, case: Case, stopped: dict[str, str]) -> None:
        """What all are steered by from now on; what fails is noted in ``stopped``."""
        for name, decoding in self._decodings.items():
            unless_stopped(name, lambda of=decoding: of.ask(case), stopped)

    def generate(self, name: str, tokens: int, stopped: dict[str, str]) -> Timing | None:
        """One generation; None if it fails, which is noted in ``stopped``."""
        decoding = self._decodings[name]
        decoding.new_tokens = tokens
        return unless_stopped(name, decoding, stopped)

    def _prepare(self) -> None:
        for variant in (bar := tqdm(self._options.variants, leave=False)):
            slow = ": it compiles, which takes a minute" if variant.mode == COMPILED else ""
            bar.set_description(f"preparing {self._case}, {variant.label}{slow}")
            if variant.again:  # the very same decoding, measured twice
                known = self.obstacles if variant.baseline in self.obstacles else self._decodings
                known[variant.name] = known[variant.baseline]
                continue
            try:
                self._decodings[variant.name] = self._tried(variant)
            except EmokernelError:
                raise
            except Exception as error:
                foreseen = obstacle(error)
                if foreseen is not None and variant.name in self._options.required:
                    raise EmokernelError(f"{variant.name} cannot run here: {foreseen}") from error
                self.obstacles[variant.name] = foreseen or _reason(error)

    def _tried(self, variant: Variant) -> Decoding:
        if variant.mode == GRAPH and self._model.device.type != "cuda":
            raise RuntimeError(NO_GPU)
        decoding = Decoding(
            self._model, self._vectors, variant, self._prompt, self._tokens, case=self._case,
            site=self._options.site, slots=self._options.slots,
            compile_backend=self._options.compile_backend,
            static=None if variant.mode == EAGER else self._static,
        )  # fmt: skip
        decoding.ask(self._case)
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


def unless_stopped(name: str, call: Callable[[], T], stopped: dict[str, str]) -> T | None:
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
    return f"{FAILED}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
