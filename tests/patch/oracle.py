"""What a steered model ought to compute, by plain forward hooks. Reads nothing of emokernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from patch.families import Family
from torch import Tensor, nn
from transformers import PreTrainedModel


class Steered(NamedTuple):
    """Logits ``[B, T, V]`` and the stream after each block, in order, rows last."""

    logits: Tensor
    streams: list[Tensor]


def decoder_blocks(model: PreTrainedModel, family: Family | None = None) -> nn.ModuleList:
    """The first list of modules that is as long as the model is deep."""
    if family is not None and family.blocks is not None:
        blocks = model.get_submodule(family.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise AssertionError(f"no list of {depth} blocks in {type(model).__name__}")


def child(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """The first of the dotted names that the block has."""
    for name in names:
        try:
            return block.get_submodule(name)
        except AttributeError:
            continue
    raise AssertionError(f"{type(block).__name__} has none of {names}")


def first(output: Any) -> Tensor:
    """The tensor that a module returned, alone or in front of a tuple or list."""
    return output[0] if isinstance(output, tuple | list) else output


def replaced(output: Any, tensor: Tensor) -> Any:
    """The output of a module with another first tensor."""
    if isinstance(output, tuple | list):
        return type(output)((tensor, *output[1:]))
    return tensor


def steer_row(row: Tensor, vector: Tensor, weight: float, law: str) -> Tensor:
    """One row law in fp32, rounded once: ``add``, ``preserve`` (the old norm), ``relative``."""
    old = row.float()
    dose = weight * old.norm(dim=-1, keepdim=True) if law == "relative" else weight
    new = old + dose * vector.float()
    if law == "preserve":
        new = new * (old.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True))
    elif law not in ("add", "relative"):
        raise ValueError(law)
    return new.to(row.dtype)


def over_rows(chosen: Tensor, like: Tensor) -> Tensor:
    """``chosen [B, T]`` in the shape of rows ``[B, T, d]``, ``[B, T, S, d]``, ``[S, B, T, d]``."""
    if like.dim() == 4 and like.shape[:2] == chosen.shape:
        return chosen[:, :, None, None]
    return chosen[..., None]


def as_rows(x: Tensor, width: int) -> Tensor:
    """The stream with its rows last, where a model keeps several of a token side by side."""
    return x if x.shape[-1] == width else x.unflatten(-1, (-1, width))


@contextmanager
def hooked(*pairs: tuple[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Forward hooks, while the context lasts; those of one module run in order."""
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _changed(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda _module, _args, output: replaced(output, change(first(output)))


def steered_logits_and_stream(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    vectors: Tensor,
    *,
    family: Family,
    site: str = "block",
    law: str = "add",
    weight: float = 1.0,
    rows: Tensor | None = None,
) -> Steered:
    """One forward call of an unpatched model with vectors ``[L, d]`` added at a site.

    ``mask [B, T]`` is the attention mask, ``rows [B, T]`` where to steer (where the mask is 1).
    At site "attention" the vector is added to the first branch before its residual add, which is
    addition to the row after it up to rounding, and only for the law ``add``.
    """
    chosen = (mask if rows is None else rows).bool()
    blocks = decoder_blocks(model, family)
    streams: list[Tensor] = []

    width = vectors.shape[-1]

    def at_block(vector: Tensor) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            x_rows = as_rows(x, width)
            new = steer_row(x_rows, vector, weight, law)
            return torch.where(over_rows(chosen, x_rows), new, x_rows).view_as(x)

        return change

    def at_branch(vector: Tensor) -> Callable[[Tensor], Tensor]:
        amount = weight / family.scale
        return lambda x: torch.where(chosen[..., None], steer_row(x, vector, amount, "add"), x)

    if site == "block":
        steering = [(b, _changed(at_block(v))) for b, v in zip(blocks, vectors, strict=True)]
    elif site == "attention" and law == "add" and "attention" in family.sites:
        steering = [
            (child(block, family.attention_output), _changed(at_branch(vector)))
            for block, vector in zip(blocks, vectors, strict=True)
        ]
    else:
        raise ValueError(f"no oracle for {family.name}, site {site!r}, law {law!r}")

    def record(_module: nn.Module, _args: Any, output: Any) -> None:
        streams.append(as_rows(first(output), width).clone())

    recording = [(block, record) for block in blocks]
    with torch.no_grad(), hooked(*steering, *recording):
        logits = model(ids, attention_mask=mask).logits
    return Steered(logits, streams)
