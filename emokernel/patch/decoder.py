"""Finding the decoder of a model: the module that loops over its blocks, and those blocks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import EmokernelError, ModelStructureError

PROBE_TOKENS = 5


@dataclass(frozen=True)
class Decoder:
    """The decoder blocks, their width, and the module around them that is given the tokens.

    ``wrappers``: what other tools put around blocks, in their places. A block is what it is without
    them, and still there when they are taken away.
    """

    owner: nn.Module
    blocks: tuple[nn.Module, ...]
    hidden_size: int
    wrappers: frozenset[nn.Module]


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
    hidden_size = getattr(text, "hidden_size", None)
    if hidden_size is None:
        raise ModelStructureError(f"the config of {kind} has no hidden_size: it cannot be patched")
    places = _the_blocks(model, getattr(text, "num_hidden_layers", None))
    chains = [_chain(place) for place in places]
    blocks = tuple(chain[-1] for chain in chains)
    for index, block in enumerate(blocks):
        if (first := blocks.index(block)) != index:
            raise ModelStructureError(
                f"blocks {first} and {index} of {kind} are one shared {type(block).__name__}, and"
                " one module cannot belong to two layers: give each place its own, as by"
                f" blocks[{index}] = copy.deepcopy(blocks[{index}])"
            )
    wrappers = frozenset(wrapper for chain in chains for wrapper in chain[:-1])
    return Decoder(_takes_tokens(model, places), blocks, hidden_size, wrappers)


def _the_blocks(model: nn.Module, count: int | None) -> nn.ModuleList:
    """The list of the decoder's blocks: of ``count``, or a shorter one where it is the only one."""
    kind = type(model).__name__
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each)]
    # Of modules that hold more than one, as those of a list of projections do not.
    every = [
        each for each in lists if all(len(list(_chain(block)[-1].children())) > 1 for block in each)
    ]
    fitting = _outermost([each for each in every if len(each) == count])
    if len(fitting) > 1:
        fitting = _of_the_language_model(model, fitting)
    if len(fitting) == 1:
        return fitting[0]
    ends = (_chain(block)[-1] for each in lists for block in each)
    if not fitting and any("_orig_mod" in end._modules for end in ends):
        raise ModelStructureError(
            f"the blocks of {kind} are wrapped by torch.compile: patch first and wrap them then, or"
            " compile each in place with block.compile()"
        )
    others = [] if fitting else _of_the_language_model(model, _outermost(every))
    if len(others) == 1:
        there = len(others[0])
        if count is not None and there < count:  # blocks were taken out, and the config left alone
            return others[0]
        raise ModelStructureError(
            f"{kind} holds {there} blocks, but its config.num_hidden_layers is {count}: set it to"
            " the number of blocks that the model is to run"
        )
    lengths = ", ".join(str(len(each)) for each in others)
    raise ModelStructureError(
        f"{kind}: found {len(fitting)} lists of {count} blocks (config.num_hidden_layers) where one"
        f" decoder was expected{f', and lists of {lengths}' if others else ''}; pass the language"
        " model itself, if this one is a part of it"
    )


def _chain(module: nn.Module) -> list[nn.Module]:
    """Wrappers that have one child each, and what they wrap; torch.compile's is no such wrapper."""
    chain = [module]
    while "_orig_mod" not in chain[-1]._modules:
        children = list(chain[-1].children())
        if len(children) != 1 or isinstance(children[0], nn.ModuleList):
            break
        chain.append(children[0])
    return chain


def _outermost(lists: list[nn.ModuleList]) -> list[nn.ModuleList]:
    """The lists that are no parts of others; those of the same blocks are one."""
    distinct = {tuple(map(id, blocks)): blocks for blocks in lists}.values()
    parts = {id(blocks): set(blocks.modules()) for blocks in distinct}
    return [
        blocks
        for blocks in distinct
        if not any(set(blocks) < parts[id(other)] for other in distinct if other is not blocks)
    ]


def _of_the_language_model(model: nn.Module, lists: list[nn.ModuleList]) -> list[nn.ModuleList]:
    """Those lists of blocks that are a part of what the model itself calls its decoder."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else None
    if not isinstance(decoder, nn.Module):
        return lists
    parts = set(decoder.modules())
    return [blocks for blocks in lists if blocks in parts] or lists


def find_generator(model: nn.Module, decoder: Decoder) -> nn.Module | None:
    """The innermost module around the decoder that has a `generate` of its own.

    Wrappers (PEFT, torch.compile) call that one, and so may their user.
    """
    around = [m for m in model.modules() if any(part is decoder.owner for part in m.modules())]
    able = [module for module in around if callable(getattr(type(module), "generate", None))]
    return able[-1] if able else None


def _takes_tokens(model: nn.Module, blocks: nn.ModuleList) -> nn.Module:
    """The innermost module around all blocks whose forward takes token ids, or that holds them."""
    own = set(blocks)
    around = [
        part
        for part in model.modules()
        if part not in own and not isinstance(part, nn.ModuleList) and own < set(part.modules())
    ]
    takes = [p for p in around if "input_ids" in inspect.signature(type(p).forward).parameters]
    return (takes or around)[-1]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; each of its parts back in its own mode afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
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


@torch.inference_mode(False)
def run_on_a_few_tokens(model: nn.Module, last: int | None = None) -> None:
    """One forward of the model without a cache; ModelStructureError if it cannot.

    ``last``: which number the last token has, the usual one if None.
    """
    kind = type(model).__name__
    try:
        embeddings: Any = getattr(model, "get_input_embeddings", None)
        embeddings = embeddings()
        vocabulary = embeddings.weight.shape[0]
        device = device_of(embeddings, embeddings.weight)
    except Exception as error:  # whatever a model raises that reads no tokens
        model_within = "a causal language model"
        for name, part in model.named_modules():
            if name and hasattr(part, "get_input_embeddings"):
                model_within = f"the {type(part).__name__} within it (.{name})"
                break
        raise ModelStructureError(
            f"{kind} has no table of token embeddings: pass {model_within}"
        ) from error
    if device.type == "meta":
        raise ModelStructureError(f"the weights of {kind} are on the meta device: load them first")
    tokens = torch.arange(PROBE_TOKENS, device=device)[None] % vocabulary
    if last is not None:
        tokens[0, -1] = last % vocabulary
    try:
        with torch.no_grad(), evaluating(model), uncompiled():
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except EmokernelError:
        raise
    except Exception as error:
        raise ModelStructureError(
            f"{kind} could not run on a few tokens ({error}): pass a causal language model"
        ) from error


def streams_of(
    model: nn.Module, parts: Iterable[nn.Module], last: int | None = None
) -> dict[nn.Module, Tensor]:
    """What each part returns when the model runs on a few tokens (`run_on_a_few_tokens`)."""
    streams: dict[nn.Module, Tensor] = {}

    def keep(part: nn.Module, _: tuple, output: object) -> None:
        streams[part] = stream_of(part, output).clone()

    handles = [part.register_forward_hook(keep) for part in parts]
    try:
        run_on_a_few_tokens(model, last)
    finally:
        for handle in handles:
            handle.remove()
    return streams


def stream_of(block: nn.Module, output: object) -> Tensor:
    """The hidden states that a block returns: its tensor, or the first of its tuple or list."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor):
        kind = type(block).__name__
        raise ModelStructureError(f"{kind} returns no hidden states as its first result")
    return first
