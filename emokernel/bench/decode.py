"""One variant of a model, generating: the time to its first token and of every token after it.

The rivals steer by plain forward hooks, as a typical user writes them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, StaticCache

from emokernel.bench.cases import Case
from emokernel.bench.compiling import CapturedCalls
from emokernel.bench.stand_ins import sharing_weights
from emokernel.bench.variants import COMPILED, GRAPH, NOTHING, Variant
from emokernel.choices import SiteName
from emokernel.patch.decoder import find_decoder
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors

_STRENGTH = 1.0  # by which a plain hook multiplies in every call, as users write it


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


class Decoding:
    """A variant of a model, around its weights: generates greedily behind ``prompt``, timed.

    ``prompt`` ``[batch, context]`` is followed by ``new_tokens`` tokens, which may be changed.
    Compiled and captured steps go on in ``static``, which has to be of the size of the longest
    text, eager ones in a cache of their own that grows. Prompts are run eagerly by all of them, as
    transformers' `generate` does. What is asked for is announced before the first token, and counts
    to it.

    Who steers does so in the layers of ``case`` and by the vectors as they are, without a
    calibration; emokernel at ``site``, hooks at the end of the block: at site "block" both compute
    the same. EmokernelError for layers that these vectors have not.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vectors: EmotionVectors,
        variant: Variant,
        prompt: Tensor,
        new_tokens: int,
        *,
        case: Case | None = None,
        site: SiteName = "block",
        slots: int = 1,
        static: StaticCache | None = None,
        compile_backend: str = "inductor",
    ) -> None:
        self.variant, self._vectors = variant, vectors
        self._prompt, self.new_tokens = prompt, new_tokens
        self._static = static
        self._model = model if variant.steering == NOTHING else sharing_weights(model)
        self._handle: Steering | None = None
        self._hooked: dict[int, Tensor] = {}
        self._requests: list[Any] | None = None
        layers = (case or Case()).steered_layers(vectors)
        if variant.is_ours:
            self._handle = patch(
                self._model, vectors, site=site, law=variant.law, dose="absolute", layers=layers,
                positions="all", calibrated=False, slots=slots,
            )  # fmt: skip
        elif variant.is_hooked:
            nothing = torch.zeros(vectors.num_layers, len(prompt), 1, vectors.hidden_size)
            rescale = variant.law == "preserve"
            added = add_plain_hooks(self._model, nothing, rescale=rescale, layers=layers)
            self._hooked = dict(zip(layers, added, strict=True))
        self._step_model: Callable = self._model
        if variant.mode == COMPILED:
            self._step_model = torch.compile(
                self._model, fullgraph=True, dynamic=False, backend=compile_backend
            )
        self._graph: CapturedCalls | None = None
        self._token = torch.zeros(len(prompt), 1, dtype=torch.long, device=prompt.device)
        # Where a model can be told so, it gives the logits of the last token alone.
        takes = inspect.signature(type(self._model).forward).parameters
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def ask(self, case: Case) -> None:
        """What the generations from now on are steered by."""
        if self._handle is not None:
            asked = case.asked(self._vectors.names)
            alike = all(mix == asked[0] for mix in asked)
            self._requests = None if alike else asked
            self._handle.off()
            if alike:
                self._handle.set(asked[0])
        if self._hooked:
            rows = case.vectors(self._vectors)
            for layer, added in self._hooked.items():
                added.copy_(rows[layer])

    @torch.no_grad()
    def __call__(self) -> Timing:
        """One generation from the prompt on."""
        cache = self.empty_cache()
        if self.variant.mode == GRAPH and self._graph is None:
            self._capture(cache)
        self._wait()
        ends = [time.perf_counter()]
        with self._asking():
            self.read_prompt(cache)
            self._wait()
            ends.append(time.perf_counter())
            for _ in range(self.new_tokens - 1):
                if self._graph is None:
                    self.step(cache)
                else:
                    self._graph.run()
                self._wait()
                ends.append(time.perf_counter())
        first, *steps = (b - a for a, b in pairwise(ends))
        return Timing(first, tuple(steps))

    def empty_cache(self) -> Any:
        """What a generation goes on in: ``static``, or a new cache that grows."""
        if self._static is None:
            return DynamicCache(config=self._model.config)
        self._static.reset()
        return self._static

    def read_prompt(self, cache: Any) -> None:
        """The forward of the prompt, eagerly, into an empty cache."""
        self._step(self._model, self._prompt, cache)

    def step(self, cache: Any) -> None:
        """One token more for each sequence, eager or compiled as the variant is."""
        self._step(self._step_model, self._token, cache)

    def _asking(self) -> AbstractContextManager:
        if self._handle is None or self._requests is None:
            return nullcontext()
        return self._handle.requests(self._requests)

    def _wait(self) -> None:
        if self._prompt.is_cuda:
            torch.cuda.synchronize()

    def _step(self, model: Callable, tokens: Tensor, cache: Any) -> None:
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, **self._last)
        self._token.copy_(output.logits[:, -1:].argmax(-1))

    def _capture(self, cache: Any) -> None:
        with self._asking():
            self.read_prompt(cache)
            self._graph = CapturedCalls(
                [lambda: self.step(cache)],
                torch.cuda.Stream(self._prompt.device),
            )
        cache.reset()


def random_prompt(model: PreTrainedModel, batch: int, context: int) -> Tensor:
    """Random token ids ``[batch, context]``, the same every time, on the model's device."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return torch.randint(vocabulary, (batch, context), generator=generator).to(model.device)


def add_plain_hooks(
    model: nn.Module,
    vectors: Tensor,
    *,
    rescale: bool = True,
    layers: Sequence[int] | None = None,
) -> list[Tensor]:
    """A forward hook on every block, or on those of ``layers``; what each adds, in order.

    vectors ``[L, d]``, or ``[L, batch, 1, d]`` for one each per sequence, cast to the model's dtype
    once. The tensors that are returned may be overwritten in place. ``rescale``: back to the old
    norm, otherwise addition alone.
    """
    blocks = find_decoder(model).blocks
    added = []
    for layer in range(len(blocks)) if layers is None else layers:
        added.append(vectors[layer].to(next(blocks[layer].parameters()), copy=True))
        blocks[layer].register_forward_hook(_hook(added[-1], rescale))
    return added


def _hook(vector: Tensor, rescale: bool) -> Callable:
    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        steered = plain_steering(hidden, vector) if rescale else hidden + _STRENGTH * vector
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


def plain_steering(hidden: Tensor, vector: Tensor) -> Tensor:
    """What the plain hook computes, in hidden's dtype: ``vector`` added, the old norm restored."""
    norm = hidden.norm(dim=-1, keepdim=True)
    steered = hidden + _STRENGTH * vector
    return steered / steered.norm(dim=-1, keepdim=True) * norm
