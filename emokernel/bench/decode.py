"""Time per token of decoding: the model unpatched, with plain hooks, and with emokernel."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from emokernel.bench.harness import measure
from emokernel.patch.decoder import find_decoder
from emokernel.steering import patch
from emokernel.vectors import EmotionVectors

UNPATCHED, PLAIN_HOOK, COMPILED_HOOK, EMOKERNEL = (
    "unpatched", "plain_hook", "compiled_hook", "emokernel",
)  # fmt: skip


def variants(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    *,
    batch: int = 1,
    context: int = 64,
    tokens: int = 8,
    with_compiled_hook: bool = False,
) -> dict[str, Callable[[], None]]:
    """A function for each variant that decodes ``tokens`` tokens greedily, ready to be timed.

    It does so for ``batch`` sequences behind a cached prompt of ``context`` tokens; every layer
    steers every token by the first emotion and keeps the norm. The variants share the model's
    weights; the model itself is left as it is.
    """
    emotion = vectors.names[0]
    hooked = sharing_weights(model)
    add_plain_hooks(hooked, vectors[emotion])
    steered = sharing_weights(model)
    patch(steered, vectors).set(emotion)
    models = {UNPATCHED: model, PLAIN_HOOK: hooked, EMOKERNEL: steered}
    if with_compiled_hook:
        models[COMPILED_HOOK] = torch.compile(hooked, dynamic=True)
    return {name: _decoding(of, model, batch, context, tokens) for name, of in models.items()}


def compare(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    *,
    tokens: int = 8,
    rounds: int = 60,
    wrap: Callable[[Iterable[int]], Iterable[int]] = iter,
    **options: Any,
) -> dict[str, list[float]]:
    """Milliseconds per token of every measurement of each of `variants`, interleaved."""
    timed = variants(model, vectors, tokens=tokens, **options)
    seconds = measure(timed, rounds=rounds, warmup=5, wrap=wrap)
    return {name: [1e3 * s / tokens for s in times] for name, times in seconds.items()}


def add_plain_hooks(model: nn.Module, vectors: Tensor, strength: float = 1.0) -> None:
    """Norm-preserving steering as a typical user writes it: a forward hook on every block.

    vectors ``[L, d]``, cast to the model's dtype once.
    """

    def steer_with(vector: Tensor) -> Callable:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            steered = plain_steering(hidden, vector, strength)
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return hook

    for block, vector in zip(find_decoder(model).blocks, vectors, strict=True):
        block.register_forward_hook(steer_with(vector.to(next(block.parameters()))))


def plain_steering(hidden: Tensor, vector: Tensor, strength: float = 1.0) -> Tensor:
    """What the plain hook computes, in hidden's dtype: ``vector`` added, the old norm restored."""
    norm = hidden.norm(dim=-1, keepdim=True)
    steered = hidden + strength * vector
    return steered / steered.norm(dim=-1, keepdim=True) * norm


def random_vectors(model: PreTrainedModel, emotions: int = 4) -> EmotionVectors:
    """Random vectors of unit norm for a model that has none."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    shape = config.num_hidden_layers, config.hidden_size
    return EmotionVectors.from_tensors(
        {
            f"emotion{n}": nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
            for n in range(emotions)
        },
        site="attention",
    )


def sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules around the same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _decoding(
    model: Callable, config_of: PreTrainedModel, batch: int, context: int, tokens: int
) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    shape, vocabulary = (batch, context), config_of.config.vocab_size
    prompt = torch.randint(vocabulary, shape, generator=generator).to(config_of.device)
    cache = DynamicCache(config=config_of.config)

    @torch.inference_mode()
    def decode() -> None:
        token = first
        for _ in range(tokens):
            logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits
            token = logits[:, -1:].argmax(-1)
        cache.crop(-tokens)

    with torch.inference_mode():
        logits = config_of(input_ids=prompt, past_key_values=cache, use_cache=True).logits
        first = logits[:, -1:].argmax(-1)
    return decode
