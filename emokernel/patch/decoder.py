"""Finding the decoder of a model: the module that loops over its blocks, and those blocks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError

PROBE_TOKENS = 5


@dataclass(frozen=True)
class Decoder:
    """The decoder blocks, their width, and the module around them that is given the tokens."""

    owner: nn.Module
    blocks: nn.ModuleList
    hidden_size: int


def find_decoder(model: nn.Module) -> Decoder:
    """The decoder of a Hugging Face causal language model; ModelStructureError if unclear."""
    kind = type(model).__name__
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise ModelStructureError(
            f"{kind} has no transformers config: pass a Hugging Face causal language model"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ModelStructureError(
            f"{kind} is an encoder-decoder; only causal language models can be patched"
        )
    text = config.get_text_config()
    count = getattr(text, "num_hidden_layers", None)
    hidden_size = getattr(text, "hidden_size", None)
    found = [
        (owner, child)
        for owner in model.modules()
        for child in owner.children()
        if isinstance(child, nn.ModuleList) and len(child) == count
        # A block holds more than one module; a list of projections does not.
        and all(len(list(block.children())) > 1 for block in child)
    ]
    found = [(owner, blocks) for owner, blocks in found if not _is_within(blocks, found)]
    if len(found) != 1 or hidden_size is None:
        raise ModelStructureError(
            f"{kind}: found {len(found)} lists of {count} blocks where one decoder was expected;"
            " pass the language model itself, if this one is a part of it"
        )
    holder, blocks = found[0]
    return Decoder(_takes_tokens(model, holder), blocks, hidden_size)


def _is_within(blocks: nn.ModuleList, others: list[tuple[nn.Module, nn.ModuleList]]) -> bool:
    """Whether these are parts of the blocks of another list."""
    return any(
        blocks is not other and any(part is blocks for part in other.modules())
        for _, other in others
    )


def _takes_tokens(model: nn.Module, holder: nn.Module) -> nn.Module:
    """The innermost module around ``holder`` whose forward takes token ids."""
    around = [part for part in model.modules() if any(m is holder for m in part.modules())]
    takes = [p for p in around if "input_ids" in inspect.signature(type(p).forward).parameters]
    return takes[-1] if takes else holder


class evaluating:
    """The module in eval mode; each of its parts back in its own mode afterwards."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __enter__(self) -> None:
        self._training = [part for part in self._module.modules() if part.training]
        self._module.eval()

    def __exit__(self, *_: object) -> None:
        for part in self._training:
            part.training = True


def run_on_a_few_tokens(model: nn.Module) -> Any:
    """One forward of the model without a cache; ModelStructureError if it cannot."""
    embeddings = model.get_input_embeddings().weight
    tokens = torch.arange(PROBE_TOKENS, device=embeddings.device)[None] % embeddings.shape[0]
    try:
        with torch.no_grad(), evaluating(model):
            return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except Exception as error:
        raise ModelStructureError(
            f"{type(model).__name__} could not run on a few tokens ({error}): pass a causal"
            " language model"
        ) from error


def stream_of(output: Any) -> Tensor | None:
    """The hidden states that a block returns: its tensor, or the first of its tuple or list."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


def map_stream(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a block returns, with its hidden states changed."""
    if isinstance(output, tuple | list):
        return type(output)([change(output[0]), *output[1:]])
    return change(output)
