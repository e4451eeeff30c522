"""One variant of a model, generating: the time to its first token and of every token after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StaticCache

from emokernel.bench.cases import Case
from emokernel.bench.gpu import Prepared, timer_for
from emokernel.bench.harness import measure
from emokernel.bench.hooks import add_plain_hooks, steered_layers
from emokernel.bench.memory import last_logits
from emokernel.bench.stand_ins import sharing_weights
from emokernel.bench.variants import (
    COMPILED,
    EAGER,
    EMOKERNEL,
    GRAPH,
    HOOK,
    NOTHING,
    OURS,
    PLAIN_HOOK,
    UNPATCHED,
    VARIANTS,
)
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors


@dataclass(frozen=True)
class Timing:
    """One generation, in seconds: until its first token, and of each token after it."""

    first: float
    steps: tuple[float, ...]

    @property
    def step(self) -> float:
        """The median of a token after the first."""
        return median(self.steps)

    @property
    def total(self) -> float:
        """Of the whole generation."""
        return self.first + sum(self.steps)


class Steered:
    """A model that shares the weights of another, and how it is told what to steer."""

    def __init__(
        self, model: PreTrainedModel, vectors: EmotionVectors, steering: str, batch: int, slots: int
    ) -> None:
        """``steering``: one of the kinds of `emokernel.bench.variants`."""
        self._vectors, self.steering = vectors, steering
        self._handle: Steering | None = None
        self._added: list[Tensor] = []
        self._layers: list[int] = []
        self._requests: list[Any] | None = None
        self.model = model if steering == NOTHING else sharing_weights(model)
        if steering == OURS:
            self._handle = patch(self.model, vectors, slots=slots)
        elif steering != NOTHING:
            self._layers = steered_layers(vectors)
            nothing = torch.zeros(vectors.num_layers, batch, 1, vectors.hidden_size)
            self._added = add_plain_hooks(
                self.model, nothing, rescale=steering == HOOK, layers=self._layers
            )

    def ask(self, case: Case) -> None:
        """What the generations from now on are steered by."""
        asked = case.asked(self._vectors.names)
        if self._handle is not None:
            self._handle.off()
            alike = all(mix == asked[0] for mix in asked)
            self._requests = None if alike else asked
            if alike:
                self._handle.set(asked[0])
        rows = case.vectors(self._vectors)
        for layer, vector in zip(self._layers, self._added, strict=True):
            vector.copy_(rows[layer])

    def generating(self) -> AbstractContextManager:
        """To be entered for each generation."""
        if self._handle is None or self._requests is None:
            return nullcontext()
        return self._handle.requests(self._requests)


class Decoding:
    """Generates ``new_tokens`` tokens greedily behind ``prompt`` ``[batch, context]``, timed.

    Compiled and captured steps go on in ``static``, which has to be of the size of the whole text,
    eager ones in a cache of their own that grows. Prompts are run eagerly by all of them, as
    transformers' `generate` does. What is asked for is announced before the first token, and counts
    to it.
    """

    def __init__(
        self,
        steered: Steered,
        prompt: Tensor,
        new_tokens: int,
        mode: str = EAGER,
        *,
        static: StaticCache | None = None,
        compile_backend: str = "inductor",
    ) -> None:
        self.steered, self._prompt, self._new_tokens = steered, prompt, new_tokens
        self._model, self.mode, self._static = steered.model, mode, static
        self._timer = timer_for(prompt.device)
        self._token = torch.zeros(len(prompt), 1, dtype=torch.long, device=prompt.device)
        self._graph: Prepared | None = None
        self._step_model: Callable = self._model
        if mode == COMPILED:
            self._step_model = torch.compile(
                self._model, fullgraph=True, dynamic=False, backend=compile_backend
            )
        self._last = last_logits(self._model)

    @torch.no_grad()
    def __call__(self) -> Timing:
        """One generation from the prompt on."""
        cache: Any = self._static
        if cache is None:
            cache = DynamicCache(config=self._model.config)
        else:
            cache.reset()
        if self.mode == GRAPH and self._graph is None:
            self._capture(cache)
        clock = self._timer.synchronize
        clock()
        start = time.perf_counter()
        with self.steered.generating():
            self._step(self._model, self._prompt, cache)
            clock()
            ends = [time.perf_counter()]
            for _ in range(self._new_tokens - 1):
                if self._graph is None:
                    self._step(self._step_model, self._token, cache)
                else:
                    self._graph.run()
                clock()
                ends.append(time.perf_counter())
        steps = tuple(b - a for a, b in pairwise(ends))
        return Timing(ends[0] - start, steps)

    def _step(self, model: Callable, tokens: Tensor, cache: Any) -> None:
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, **self._last)
        self._token.copy_(output.logits[:, -1:].argmax(-1))

    def _capture(self, cache: Any) -> None:
        with self.steered.generating():
            self._step(self._model, self._prompt, cache)
            self._graph = self._timer.prepare([lambda: self._step(self._model, self._token, cache)])
        cache.reset()


def random_prompt(model: PreTrainedModel, batch: int, context: int) -> Tensor:
    """Random token ids ``[batch, context]``, the same every time, on the model's device."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return torch.randint(vocabulary, (batch, context), generator=generator).to(model.device)


def decodings(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    *,
    context: int = 64,
    tokens: int = 8,
    variants: Sequence[str] = (UNPATCHED, PLAIN_HOOK, EMOKERNEL),
) -> dict[str, Decoding]:
    """Eager `Decoding` of one sequence by each variant, steered by the first emotion."""
    prompt, made = random_prompt(model, 1, context), {}
    for name in variants:
        steered = Steered(model, vectors, VARIANTS[name].steering, 1, slots=1)
        steered.ask(Case(1, context))
        made[name] = Decoding(steered, prompt, tokens)
    return made


def compare(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    *,
    rounds: int = 60,
    wrap: Callable[[Iterable[int]], Iterable[int]] = iter,
    **options: Any,
) -> dict[str, list[float]]:
    """Milliseconds per token of every round of each of `decodings`, interleaved."""
    timed = decodings(model, vectors, **options)
    timings = measure(timed, rounds, warmup=3, wrap=wrap, clock=lambda call: call())
    return {name: [1e3 * timing.step for timing in each] for name, each in timings.items()}
