"""Reading the structure of a decoder: where its blocks are, and how data flows through one.

Nothing here knows the name of a model. A block runs once on random rows while its children are
watched; what feeds what is decided by comparing the tensors themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_PROBE_TOKENS = 5


@dataclass(frozen=True)
class Decoder:
    """The module that loops over the decoder blocks, the blocks, and what a call hands to each."""

    owner: nn.Module
    blocks: nn.ModuleList
    hidden_size: int
    calls: tuple[tuple[Tensor, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class SequentialBlock:
    """A sequential pre-norm block: names of its children, and how it calls its attention.

    h = x + attention(input_norm(x)); out = h + mlp(post_attention_norm(h))
    """

    input_norm: str
    attention: str
    post_attention_norm: str
    mlp: str
    hidden_argument: str | None
    attention_arguments: frozenset[str]
    returns_tuple: bool
    random_in_training: bool


@dataclass(frozen=True)
class _Call:
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    @property
    def hidden(self) -> tuple[str | None, Tensor | None]:
        """The first tensor argument: (its keyword, or None if positional; the tensor)."""
        if self.args:
            return None, self.args[0] if isinstance(self.args[0], Tensor) else None
        tensors = [(k, v) for k, v in self.kwargs.items() if isinstance(v, Tensor)]
        return tensors[0] if tensors else (None, None)

    @property
    def branch(self) -> Tensor | None:
        """The output, or the first member of a tuple."""
        output = self.output[0] if isinstance(self.output, tuple) and self.output else self.output
        return output if isinstance(output, Tensor) else None


def find_decoder(model: nn.Module) -> Decoder:
    """The decoder of a Hugging Face causal language model; ModelStructureError if unclear."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise ModelStructureError(
            f"{type(model).__name__} has no transformers config: pass a Hugging Face model"
        )
    config = config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    hidden_size = getattr(config, "hidden_size", None)
    found = [
        (owner, child)
        for owner in model.modules()
        for child in owner.children()
        if isinstance(child, nn.ModuleList)
        and len(child) == count
        and len({type(block) for block in child}) == 1
    ]
    if len(found) != 1 or hidden_size is None:
        raise ModelStructureError(
            f"{type(model).__name__}: found {len(found)} lists of {count} equal blocks where one"
            " decoder was expected; this model cannot be patched yet"
        )
    owner, blocks = found[0]
    return Decoder(owner, blocks, hidden_size, _record_calls(model, blocks))


def _record_calls(
    model: nn.Module, blocks: nn.ModuleList
) -> tuple[tuple[Tensor, Mapping[str, Any]], ...]:
    """Run the model on a few tokens and record (hidden states, keyword arguments) of each block."""
    calls: dict[int, tuple[Tensor, Mapping[str, Any]]] = {}

    def hook(index: int, block: nn.Module) -> Any:
        names = list(inspect.signature(block.forward).parameters)

        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = dict(zip(names, args, strict=False)) | kwargs
            calls[index] = (given.pop(names[0]), given)

        return block.register_forward_pre_hook(record, with_kwargs=True)

    handles = [hook(index, block) for index, block in enumerate(blocks)]
    embeddings = model.get_input_embeddings().weight
    tokens = torch.arange(_PROBE_TOKENS, device=embeddings.device)[None] % embeddings.shape[0]
    try:
        with torch.no_grad(), evaluating(model):
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except Exception as error:
        raise ModelStructureError(
            f"{type(model).__name__} could not run on a few tokens ({error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if len(calls) != len(blocks):
        raise ModelStructureError(f"{type(model).__name__} did not run all of its blocks")
    return tuple(calls[index] for index in range(len(blocks)))


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


def random_rows(like: Tensor, seed: int = 0) -> Tensor:
    """Random rows in the shape, dtype and place of ``like``, to probe a block with."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator).to(like.device, like.dtype)


def run_block(block: nn.Module, hidden: Tensor, kwargs: Mapping[str, Any]) -> Any:
    """The output of a block on probe rows, without gradients and in eval mode."""
    with torch.no_grad(), evaluating(block):
        return block(hidden, **kwargs)


def read_block(block: nn.Module, hidden: Tensor, kwargs: Mapping[str, Any]) -> SequentialBlock:
    """The structure of a block, read from one run; ModelStructureError says what is not known."""
    trace: list[_Call] = []

    def record(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> None:
            trace.append(_Call(name, args, given, output))

        return hook

    hidden = random_rows(hidden)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(block.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    handles = [
        child.register_forward_hook(record(name), with_kwargs=True)
        for name, child in block.named_children()
        if not isinstance(child, (nn.Dropout, nn.Identity))
    ]
    try:
        output = run_block(block, hidden.clone(), kwargs)
    finally:
        for handle in handles:
            handle.remove()
    found = _match_sequential(type(block).__name__, trace, hidden, output, defaults | dict(kwargs))
    return replace(found, random_in_training=_random_in_training(block, hidden, kwargs, output))


def _random_in_training(
    block: nn.Module, hidden: Tensor, kwargs: Mapping[str, Any], output: Any
) -> bool:
    """Whether training mode changes what the block computes (dropout, whatever its form)."""
    was_training = {part: part.training for part in block.modules()}
    checkpointing = getattr(block, "gradient_checkpointing", False)
    block.train()
    if checkpointing:
        block.gradient_checkpointing = False
    try:
        with torch.no_grad(), torch.random.fork_rng():
            trained = block(hidden.clone(), **kwargs)
    finally:
        for part, training in was_training.items():
            part.training = training
        if checkpointing:
            block.gradient_checkpointing = True
    pair = [value[0] if isinstance(value, tuple) else value for value in (output, trained)]
    return not torch.equal(*pair)


def _match_sequential(
    kind: str, trace: list[_Call], hidden: Tensor, output: Any, kwargs: Mapping[str, Any]
) -> SequentialBlock:
    def require(condition: bool, what: str) -> None:
        if not condition:
            raise ModelStructureError(
                f"{kind} is not a sequential pre-norm block, the structure that can be patched so"
                f" far: {what}"
            )

    def same(a: Tensor | None, b: Tensor | None) -> bool:
        return a is not None and b is not None and a.shape == b.shape and torch.equal(a, b)

    names = [call.name for call in trace]
    require(len(trace) == 4 and len(set(names)) == 4, f"it runs {', '.join(names) or 'nothing'}")
    input_norm, attention, post_norm, mlp = trace
    keyword, attention_input = attention.hidden
    for call in (input_norm, post_norm, mlp):
        require(len(call.args) + len(call.kwargs) == 1, f"{call.name} gets more than its rows")
    require(same(input_norm.hidden[1], hidden), f"{input_norm.name} does not see the block's input")
    require(
        same(attention_input, input_norm.branch),
        f"{attention.name} does not see the output of {input_norm.name}",
    )
    require(attention.branch is not None, f"{attention.name} returns no tensor")
    residual = hidden + attention.branch
    require(
        same(post_norm.hidden[1], residual),
        f"{post_norm.name} does not see the input plus the output of {attention.name}",
    )
    require(
        same(mlp.hidden[1], post_norm.branch) and isinstance(mlp.output, Tensor),
        f"{mlp.name} does not turn the output of {post_norm.name} into one tensor",
    )
    returns_tuple = isinstance(output, tuple)
    require(not returns_tuple or len(output) == 1, "it returns more than its hidden states")
    require(
        same(output[0] if returns_tuple else output, residual + mlp.output),
        f"it does not return the sum of its residual and the output of {mlp.name}",
    )
    others = {name: value for name, value in attention.kwargs.items() if name != keyword}
    require(
        len(attention.args) == (keyword is None)
        and all(value is kwargs.get(name) or value is None for name, value in others.items()),
        f"{attention.name} gets arguments that the block does not get",
    )
    return SequentialBlock(
        *names,
        hidden_argument=keyword,
        attention_arguments=frozenset(others),
        returns_tuple=returns_tuple,
        random_in_training=False,
    )
