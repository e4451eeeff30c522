"""What all drivers on Hugging Face models share. Needs torch, transformers, safetensors, numpy."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from passes import told, uncollected
from protocol import HOOK, STEERED, UNPATCHED, Cannot, Driver, Mix
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

__all__ = ["Cannot", "Mix", "TransformersDriver", "add_hooks"]


class TransformersDriver(Driver):
    """Generates by `generate`, unpatched and steered alike.

    For a subclass: ``model``, unpatched; ``steered``, a copy of its modules around the same
    weights, which `prepare` may wrap or replace by what the peer's README calls `generate` on;
    ``vectors`` {emotion: [L, d] fp32}, ``layers``, ``law``. A driver has at least `ask`.
    """

    packages: tuple[str, ...] = ("torch", "transformers")

    def prepare(self) -> None:
        """Once, after loading: the peer's own objects."""

    def steering(self) -> AbstractContextManager[Any]:
        """What has to be around a generation by the README; counts to the first token."""
        return nullcontext()

    def one_mix(self, rows: list[Mix | None]) -> Mix | None:
        """What all rows ask for; Cannot if they differ."""
        if any(row != rows[0] for row in rows):
            raise Cannot("one vector for the whole batch")
        return rows[0]

    def mixed(self, mix: Mix | None) -> Tensor:
        """The one vector ``[L, d]`` fp32 of a mix, zero of none."""
        nothing = torch.zeros_like(next(iter(self.vectors.values())))
        return sum((w * self.vectors[name] for name, w in (mix or {}).items()), nothing)

    def by_row(self, rows: Sequence[Mix | None]) -> Tensor:
        """One vector per layer and row, ``[L, rows, 1, d]`` fp32, zero for none."""
        return torch.stack([self.mixed(row) for row in rows], 1).unsqueeze(2)

    # What the worker calls.

    def open(
        self,
        model: str,
        dtype: str,
        threads: int,
        vectors: str,
        layers: list[int],
        gguf: dict[str, Any] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.layers, self.vectors = layers, load_file(vectors)
        # transformers 4 knows no other name; 5 takes it too.
        loaded = AutoModelForCausalLM.from_pretrained(model, torch_dtype=getattr(torch, dtype))
        self.model = loaded.eval()
        # Every generation makes all of its tokens.
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.steered = sharing_weights(self.model)
        self.prepare()
        gc.collect()
        gc.freeze()  # what is there now is not looked through again and again

    @torch.no_grad()
    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        ids = torch.tensor(prompts)
        output = self._generate(
            how,
            ids[:, :-1],
            2,
            logits_processor=LogitsProcessorList([_Saying(ids[:, -1:])]),
            output_logits=True,
            return_dict_in_generate=True,
        )
        np.save(file, output.logits[1].float().numpy())

    @torch.no_grad()
    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        ids, clock = torch.tensor(prompts), _Clock()
        with uncollected():
            start = time.perf_counter()
            self._generate(how, ids, new_tokens, streamer=clock)
        return told([start, *clock.times], new_tokens)

    def hooked(self) -> AbstractContextManager[nn.Module]:
        """The unpatched model, steered by plain hooks of ours meanwhile."""
        return _hooked(self.model, self.layers, self.by_row(self.rows), self.law)

    def _generate(self, how: str, ids: Tensor, new_tokens: int, **options: Any) -> Any:
        with self._steerer(how) as model:
            return model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                do_sample=False,
                **options,
            )

    @contextmanager
    def _steerer(self, how: str) -> Iterator[Any]:
        if how == UNPATCHED:
            yield self.model
        elif how == STEERED:
            with self.steering():
                yield self.steered
        elif how == HOOK:
            with self.hooked() as model:
                yield model
        else:
            raise ValueError(f"unknown way to run the model {how!r}")


class _Clock(BaseStreamer):
    """The time of each token; what comes first is the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if not self._prompt:
            self.times.append(time.perf_counter())
        self._prompt = False

    def end(self) -> None:
        pass


class _Saying(LogitsProcessor):
    """Only ``tokens`` ``[batch, 1]`` are possible."""

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -torch.inf).scatter(1, self._tokens, 0.0)


def sharing_weights(model: nn.Module) -> nn.Module:
    """A copy of the modules around the same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def add_hooks(
    model: nn.Module, layers: list[int], vectors: list[Tensor], law: str = "add"
) -> list[Any]:
    """The plain hook as a typical user writes it, on the blocks of ``layers``; their handles.

    vectors: one for each of the layers, ``[1 or batch, 1, d]``, in the model's dtype. Law
    "preserve": back to the old norm.
    """
    blocks = model.model.layers if hasattr(model, "model") else model.transformer.h
    return [
        blocks[layer].register_forward_hook(_hook(vector, law))
        for layer, vector in zip(layers, vectors, strict=True)
    ]


def _hook(vector: Tensor, law: str) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        steered = hidden + vector
        if law == "preserve":
            norm = hidden.norm(dim=-1, keepdim=True)
            steered = steered / steered.norm(dim=-1, keepdim=True) * norm
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


@contextmanager
def _hooked(model: nn.Module, layers: list[int], rows: Tensor, law: str) -> Iterator[nn.Module]:
    dtype = next(model.parameters()).dtype
    handles = add_hooks(model, layers, [rows[layer].to(dtype) for layer in layers], law)
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()
