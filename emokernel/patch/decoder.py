"""Finding the decoder of a model: the module that loops over its blocks, and those blocks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
    if len(found) > 1:
        found = _of_the_language_model(model, found)
    if not found and _has_compiled_blocks(model, count):
        raise ModelStructureError(
            f"the blocks of {kind} are wrapped by torch.compile: patch first and wrap them then, or"
            " compile each in place with block.compile()"
        )
    if len(found) != 1 or hidden_size is None:
        raise ModelStructureError(
            f"{kind}: found {len(found)} lists of {count} blocks where one decoder was expected;"
            " pass the language model itself, if this one is a part of it"
        )
    holder, blocks = found[0]
    _check_shared(kind, blocks)
    return Decoder(_takes_tokens(model, holder), blocks, hidden_size)


def _check_shared(kind: str, blocks: nn.ModuleList) -> None:
    """ModelStructureError if one block stands at two places."""
    places: dict[nn.Module, int] = {}
    for index, block in enumerate(blocks):
        first = places.setdefault(block, index)
        if first != index:
            raise ModelStructureError(
                f"blocks {first} and {index} of {kind} are one shared {type(block).__name__}, and"
                " one module cannot belong to two layers: give each place its own, as by"
                f" blocks[{index}] = copy.deepcopy(blocks[{index}])"
            )


def _is_within(blocks: nn.ModuleList, others: list[tuple[nn.Module, nn.ModuleList]]) -> bool:
    """Whether these are parts of the blocks of another list."""
    return any(
        blocks is not other and any(part is blocks for part in other.modules())
        for _, other in others
    )


def _of_the_language_model(
    model: nn.Module, found: list[tuple[nn.Module, nn.ModuleList]]
) -> list[tuple[nn.Module, nn.ModuleList]]:
    """Those lists of blocks that are a part of what the model itself calls its decoder."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else None
    if not isinstance(decoder, nn.Module):
        return found
    parts = set(decoder.modules())
    return [(owner, blocks) for owner, blocks in found if blocks in parts]


def _has_compiled_blocks(model: nn.Module, count: int | None) -> bool:
    return any(
        isinstance(module, nn.ModuleList)
        and len(module) == count
        and any("_orig_mod" in block._modules for block in module)
        for module in model.modules()
    )


def find_generator(model: nn.Module, decoder: Decoder) -> nn.Module | None:
    """The innermost module around the decoder that has a `generate` of its own.

    Wrappers (PEFT, torch.compile) call that one, and so may their user.
    """
    around = [m for m in model.modules() if any(part is decoder.owner for part in m.modules())]
    able = [module for module in around if callable(getattr(type(module), "generate", None))]
    return able[-1] if able else None


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


def uncompiled() -> AbstractContextManager:
    """Within it, what torch.compile has compiled runs as it was written."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and it is slow to import
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def device_of(module: nn.Module, parameter: Tensor) -> torch.device:
    """Where a parameter of ``module`` is when it is used: accelerate may keep it elsewhere."""
    if parameter.device.type == "meta":
        hook = getattr(module, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            device = getattr(each, "execution_device", None)
            if device is not None:
                return torch.empty(0, device=device).device  # "cuda" is "cuda:0"
    return parameter.device


def run_on_a_few_tokens(model: nn.Module, last: int | None = None) -> Any:
    """One forward of the model without a cache; ModelStructureError if it cannot.

    ``last``: which number the last token has, the usual one if None.
    """
    kind = type(model).__name__
    try:
        embeddings = model.get_input_embeddings()
        vocabulary = embeddings.weight.shape[0]
        device = device_of(embeddings, embeddings.weight)
    except Exception as error:  # whatever a model raises that reads no tokens
        raise ModelStructureError(
            f"{kind} has no table of token embeddings: pass a causal language model"
        ) from error
    if device.type == "meta":
        raise ModelStructureError(f"the weights of {kind} are on the meta device: load them first")
    tokens = torch.arange(PROBE_TOKENS, device=device)[None] % vocabulary
    if last is not None:
        tokens[0, -1] = last % vocabulary
    try:
        with torch.no_grad(), evaluating(model), uncompiled():
            return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except Exception as error:
        raise ModelStructureError(
            f"{kind} could not run on a few tokens ({error}): pass a causal language model"
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
