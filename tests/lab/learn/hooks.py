"""Gradients of a steered model by plain forward hooks and autograd. Reads nothing of emokernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from patch.oracle import decoder_blocks, first, hooked, replaced, steer_row
from torch import Tensor
from transformers import PreTrainedModel


@contextmanager
def steered_by_hooks(
    model: PreTrainedModel,
    vectors: Sequence[Tensor | None],
    *,
    law: str,
    weight: float,
    rows: Tensor,
) -> Iterator[None]:
    """Vectors ``[L, d]`` (None: untouched) of each sequence at the end of blocks.

    ``rows [B, T]``: where to steer; ``law`` and ``weight`` as `patch.oracle.steer_row`.
    """

    def at(layer: int):
        def change(_module, _args, output):
            x = first(output)
            parts = [
                part if vector is None else steer_row(part, vector[layer], weight, law)
                for part, vector in zip(x, vectors, strict=True)
            ]
            return replaced(output, torch.where(rows[..., None].bool(), torch.stack(parts), x))

        return change

    blocks = decoder_blocks(model)
    with hooked(*((block, at(layer)) for layer, block in enumerate(blocks))):
        yield


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    """The gradients that there are, by parameter name; they are taken away."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_equal_gradients(
    found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    """Of each parameter, relative to the largest of its gradient."""
    assert found.keys() == expected.keys()
    assert found
    for name, one in found.items():
        other = expected[name]
        scale = other.float().abs().max()
        error = (one.float() - other.float()).abs().max()
        assert error <= tolerance * scale, f"{name}: {float(error / scale):.2e}"
