"""Steering by plain hooks on the blocks of an unpatched model, at places that a test sets by hand.

Knows nothing of emokernel's requests, slots or rows: the mask of steered columns comes from the
test, and one full forward over the finished text gives what each step of a generation must have
given, since a cache holds what was steered when it was computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from emokernel import EmotionVectors, Request

# (requests, one per sequence, None: nothing; bool [batch, columns]: what they steered).
Steered = tuple[Sequence[Request | None], Tensor]


def by_hand(positions: str, real: Tensor, prompt: Tensor) -> Tensor:
    """Which columns ``positions`` means: bool ``[batch, columns]``.

    ``real``: the columns that are no padding; ``prompt``: those that were given, not generated.
    """
    real = real.bool()
    if positions == "all":
        return real
    if positions == "prompt":
        return real & prompt
    steered = real & ~prompt
    if positions == "last":
        for row, given in enumerate(real & prompt):
            steered[row, given.nonzero().max()] = True
    return steered


def teacher_forced(
    model: PreTrainedModel,
    vectors: EmotionVectors,
    ids: Tensor,
    real: Tensor,
    width: int,
    *steered: Steered,
) -> Tensor:
    """Logits ``[batch, columns, vocabulary]`` of one full forward, steered at the given columns.

    Places are numbered as `generate` does: those of the first ``width`` columns by counting what is
    no padding, each later one by one more than the column before.
    """
    adds = torch.zeros(len(vectors.tensor), *ids.shape, vectors.tensor.shape[-1])
    preserved = torch.zeros(ids.shape, dtype=torch.bool)
    for requests, where in steered:
        for row, request in enumerate(requests):
            if request is None or request.emotion is None:
                continue
            mix = request.emotion
            mix = {mix: 1.0} if isinstance(mix, str) else mix
            vector = sum(weight * vectors[name] for name, weight in mix.items())  # [L, d]
            adds[:, row, where[row]] += request.strength * vector[:, None]
            if request.law != "add":
                preserved[row] |= where[row]

    def hook(layer):
        def after(module, args, output):
            stream = output[0] if isinstance(output, tuple) else output
            moved = stream + adds[layer]
            back = moved * stream.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
            moved = torch.where(preserved[..., None], back, moved)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return after

    places = (real[:, :width].long().cumsum(-1) - 1).masked_fill(real[:, :width] == 0, 0)
    later = places[:, -1:] + 1 + torch.arange(ids.shape[1] - width)
    given = {"attention_mask": real.long(), "use_cache": False}
    if "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = torch.cat([places, later], 1)
    handles = [
        block.register_forward_hook(hook(layer))
        for layer, block in enumerate(model.base_model.layers)
    ]
    try:
        with torch.no_grad():
            return model(ids, **given).logits
    finally:
        for handle in handles:
            handle.remove()


def assert_steps(got: Sequence[Tensor], full: Tensor, width: int) -> None:
    """Logits of each step ``[batch, vocabulary]`` are those of the full forward at its column."""
    assert got
    for step, logits in enumerate(got):
        torch.testing.assert_close(
            logits,
            full[:, width - 1 + step],
            rtol=1e-4,
            atol=1e-4,
            msg=lambda m, s=step: f"{s}:{m}",
        )
