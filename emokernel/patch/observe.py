"""One run of a model with every residual add and every small module watched.

Tensors are followed by the memory that they lie in, and by torch's count of the writes to it: a
norm reads the result of an add if it gets that very memory and nobody has written to it since. All
that is recorded is kept alive meanwhile, so that no memory is used twice.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError
from emokernel.patch.between import Step
from emokernel.patch.decoder import Decoder, run_on_a_few_tokens, stream_of
from emokernel.patch.source import Key, rewrite
from emokernel.replaced import forward_name, is_replaced

# (name of a part of the block, "" for the block itself; key in the source of its forward)
Place = tuple[str, Key]


@dataclass(frozen=True)
class Seen:
    """A tensor at one moment."""

    tensor: Tensor
    version: int

    @classmethod
    def of(cls, tensor: Tensor) -> Seen:
        return cls(tensor, tensor._version)

    def is_read_by(self, later: Seen) -> bool:
        """Whether ``later`` holds the same numbers at the same place, nothing written between."""
        a, b = self.tensor, later.tensor
        return (
            a.data_ptr() == b.data_ptr()
            and a.numel() == b.numel()
            and a.dtype == b.dtype
            and a.is_contiguous()
            and b.is_contiguous()
            and self.version == later.version
        )


@dataclass(frozen=True)
class Addition:
    """An add of two tensors of the size of the stream, in the run of one block.

    ``at``: how many steps the run had made before.
    """

    place: Place
    operands: tuple[Seen, Seen]
    result: Seen
    at: int


@dataclass(frozen=True)
class Read:
    """A module of the model that was given a tensor, in the order of the run.

    ``at``: how many steps the run had made, that into the module included.
    """

    module: nn.Module
    input: Seen
    block: int | None
    at: int


@dataclass
class BlockRun:
    """What one block was called with, what it added, and what it returned.

    ``args``, ``kwargs`` and ``rows`` (of the result) are as they were then: hooks may replace them,
    and write to them later.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    hidden: Seen
    additions: list[Addition] = field(default_factory=list)
    output: Any = None
    result: Seen | None = None
    rows: Tensor | None = None


@dataclass
class Observation:
    """A run of all blocks, everything that was read, and every call that began or ended."""

    blocks: dict[int, BlockRun] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def readers(self, seen: Seen) -> list[Read]:
        """What was given the very memory of ``seen``, nothing written to it between."""
        return [read for read in self.reads if seen.is_read_by(read.input)]

    def steps_between(self, addition: Addition, read: Read) -> list[Step]:
        """The calls that began and ended from an add to a later read, that of the reader last."""
        return self.steps[addition.at : read.at]


def observe(model: nn.Module, decoder: Decoder) -> Observation:
    """Run the model once; ModelStructureError if a block cannot be followed."""
    recorder = _Recorder(decoder)
    with torch.inference_mode(False), recorder.installed(model):
        run_on_a_few_tokens(model)
    if recorder.residual is not None:
        raise ModelStructureError(
            f"{type(recorder.residual).__name__} adds what its block returns to the residual"
            " stream, so that a block is a branch of it: such a model cannot be patched"
        )
    missing = [i for i in range(len(decoder.blocks)) if i not in recorder.observed.blocks]
    if missing:
        raise ModelStructureError(
            f"{type(model).__name__} gives its blocks {missing} no rows of width"
            f" {decoder.hidden_size} (more than one residual stream?), or does not run them; such a"
            " model cannot be patched"
        )
    for index, run in recorder.observed.blocks.items():
        if run.result is None:
            kind = type(decoder.blocks[index]).__name__
            raise ModelStructureError(f"{kind} returns no hidden states as its first result")
    return recorder.observed


class _Recorder:
    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self.observed = decoder, Observation()
        self._block: int | None = None
        self._last: BlockRun | None = None  # that has ended
        self.residual: nn.Module | None = None  # a wrapper that adds what its block returns

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        """Watch the model's blocks, their children and all small modules until the end."""
        kept: list[tuple[nn.Module, str, object]] = []
        handles = []
        try:
            for index, block in enumerate(self._decoder.blocks):
                handles += self._watch_block(index, block)
                for name, part in block.named_modules():
                    # FSDP's classes are torch's, but keep the forward of the model's.
                    if not type(part).forward.__module__.startswith("torch."):
                        self._watch_adds(part, name, kept)
            for wrapper in self._decoder.wrappers:
                handles.append(wrapper.register_forward_hook(self._leave_wrapper))
            for module in model.modules():
                handles.append(module.register_forward_pre_hook(self._read, with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module, name, own in reversed(kept):
                vars(module).pop(name) if own is None else vars(module).__setitem__(name, own)

    def _watch_block(self, index: int, block: nn.Module) -> list:
        width = self._decoder.hidden_size
        called: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

        def kept(value: Any) -> Any:
            return value.clone() if _is_rows(value, width) else value

        def call(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            nonlocal called
            called = tuple(map(kept, args)), {name: kept(value) for name, value in kwargs.items()}

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = (v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
            hidden = next((v for v in given if v.shape[-1:] == (width,)), None)
            if hidden is None:
                return
            self._block = index
            self.observed.blocks[index] = BlockRun(*called, Seen.of(hidden))

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            run, stream = self.observed.blocks.get(index), stream_of(output)
            self._block = None
            if run is not None and stream is not None:
                run.output, run.result, run.rows = output, Seen.of(stream), stream.clone()
                self._last = run

        return [
            # Before the hooks that are there, which run again when the block is called like this.
            block.register_forward_pre_hook(call, prepend=True, with_kwargs=True),
            block.register_forward_pre_hook(before, with_kwargs=True),
            block.register_forward_hook(after, with_kwargs=True),
        ]

    def _watch_adds(self, module: nn.Module, name: str, kept: list) -> None:
        if is_replaced(module):  # as by tensor parallelism: its own forward alone is not what runs
            return

        def watch(key: Key) -> Any:
            return lambda a, b: self._add((name, key), a, b)

        rewritten = rewrite(type(module).forward, watch)
        if rewritten is None:
            return
        attribute = forward_name(module)
        kept.append((module, attribute, vars(module).get(attribute)))
        vars(module)[attribute] = types.MethodType(rewritten, module)

    def _add(self, place: Place, a: Any, b: Any) -> Any:
        result = a + b
        run = self.observed.blocks.get(self._block) if self._block is not None else None
        if run is not None and all(isinstance(t, Tensor) for t in (a, b)):
            stream = run.hidden.tensor
            if all(t.numel() == stream.numel() and t.dim() > 0 for t in (a, b, result)) and all(
                t.shape[-1] == self._decoder.hidden_size for t in (a, b)
            ):
                operands, at = (Seen.of(a), Seen.of(b)), len(self.observed.steps)
                run.additions.append(Addition(place, operands, Seen.of(result), at))
        return result

    def _read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        steps = self.observed.steps
        steps.append(Step(module, left=False))
        for value in (*args, *kwargs.values()):
            if _is_rows(value, self._decoder.hidden_size):
                self.observed.reads.append(Read(module, Seen.of(value), self._block, len(steps)))

    def _leave_wrapper(self, wrapper: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        run, stream = self._last, stream_of(output)
        if run is None or run.rows is None or stream is None or stream.shape != run.rows.shape:
            return
        given = next(v for v in (*run.args, *run.kwargs.values()) if _is_rows(v, stream.shape[-1]))
        if (stream - run.rows - given).norm() <= 1e-2 * given.norm():
            self.residual = wrapper

    def _leave(self, module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        self.observed.steps.append(Step(module, left=True))


def _is_rows(value: Any, width: int) -> bool:
    return isinstance(value, Tensor) and value.shape[-1:] == (width,)
