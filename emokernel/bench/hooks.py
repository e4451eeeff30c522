"""The rivals: steering by plain forward hooks, as a typical user writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from emokernel.patch.decoder import find_decoder
from emokernel.vectors import EmotionVectors

_STRENGTH = 1.0  # by which a hook multiplies in every call, as users write it


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


def steered_layers(vectors: EmotionVectors) -> list[int]:
    """The layers that `patch` steers with these vectors where no others are chosen."""
    if vectors.calibration is None:
        return list(vectors.layers)
    return [layer for layer, weight in enumerate(vectors.calibration.profile) if weight]
