"""The structure of a model's blocks: which of their adds put a branch on the residual stream.

Nothing here knows the name of a model. It runs once with every residual add and every small module
watched. Tensors are followed by the memory that they lie in, and by torch's count of the writes to
it: a norm reads the result of an add if it gets that very memory and nobody has written to it
since. All that is recorded is kept alive meanwhile, so that no memory is used twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

from torch import Tensor, nn

from emokernel.errors import ModelStructureError
from emokernel.patch.decoder import Decoder, run_on_a_few_tokens, stream_of
from emokernel.patch.source import Key, RewrittenForward, rewrite
from emokernel.patch.surroundings import Step
from emokernel.replaced import is_replaced


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
        return self.version == later.version and same_memory(self.tensor, later.tensor)


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in the same order at the same place."""
    return (
        a.data_ptr() == b.data_ptr()
        and a.numel() == b.numel()
        and a.dtype is b.dtype
        and a.is_contiguous()
        and b.is_contiguous()
    )


@dataclass(frozen=True)
class Addition:
    """An add of two tensors of the size of the stream, in the run of one block.

    ``part`` (the name of a part of the block, "" for the block itself) and ``key`` (in the source
    of its forward) are where it is; ``branch`` is the operand that the branch is, where the other
    one is what the block was given; ``at`` is how many steps the run had made before.
    """

    part: str
    key: Key
    branch: int | None
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
    """What one block was called with and given, what it added, and what it returned.

    ``args``, ``kwargs``, ``given`` and ``rows`` (of the result) are as they were then: hooks may
    replace them, and write to them later.
    """

    args: tuple
    kwargs: dict[str, object]
    hidden: Seen
    given: Tensor
    additions: list[Addition] = field(default_factory=list)
    result: Seen = field(init=False)
    rows: Tensor = field(init=False)


@dataclass
class Observation:
    """A run of all blocks, everything that was read, and every call that began or ended.

    ``results``: the rows that modules without children returned last.
    """

    blocks: dict[int, BlockRun] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    results: dict[nn.Module, Tensor] = field(default_factory=dict)

    def readers(self, addition: Addition) -> list[Read]:
        """What was given the very result of an add, nothing written to it between."""
        return [read for read in self.reads if addition.result.is_read_by(read.input)]

    def adds_of(self, index: int, block: nn.Module) -> tuple[Addition | None, Addition | None]:
        """The *attention* and the *end* add of ``block``; None where it has none that can be seen.

        The end add is the one whose result the block returns. The attention add is the first whose
        result something in the same block reads (the norm before the MLP, or the MLP itself): a
        block that adds attention and MLP to the stream at once has none.
        """
        run = self.blocks[index]
        ends = [each for each in run.additions if each.result.is_read_by(run.result)]
        end = ends[-1] if ends else None
        # What the block itself adds counts before what its parts do, and of that only what they add
        # to the block's input: they have adds of their own.
        own = [each for each in run.additions if not each.part]
        for each in own + [each for each in run.additions if each.part and each.branch is not None]:
            inside = (r.block == index and r.module is not block for r in self.readers(each))
            if each is not end and any(inside):
                return each, end
        return None, end


def observe(model: nn.Module, decoder: Decoder) -> Observation:
    """Run the model once; ModelStructureError if a block cannot be followed."""
    recorder = _Recorder(decoder)
    with ExitStack() as undo:
        recorder.watch(model, undo)
        run_on_a_few_tokens(model)
    blocks = recorder.observed.blocks
    missing = [i for i in range(len(decoder.blocks)) if i not in blocks]
    if missing:
        raise ModelStructureError(
            f"{type(model).__name__} gives its blocks {missing} no rows of width"
            f" {decoder.hidden_size} (more than one residual stream?), or does not run them; such a"
            " model cannot be patched"
        )
    return recorder.observed


def own_part(decoder: Decoder, block: nn.Module, name: str) -> nn.Module:
    """The part of ``block`` of that name; ModelStructureError if other blocks have it too.

    It is to be changed for its own layer alone.
    """
    part = block.get_submodule(name)
    if name and any(part in set(o.modules()) for o in decoder.blocks if o is not block):
        raise ModelStructureError(
            f"a {type(part).__name__} with a residual add is shared by two blocks, and one module"
            " cannot belong to two layers: give each block its own"
        )
    return part


class _Recorder:
    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self.observed = decoder, Observation()
        self._block: int | None = None
        self._called: tuple[tuple, dict[str, object]] = (), {}
        self._last: BlockRun | None = None  # that has ended

    def watch(self, model: nn.Module, undo: ExitStack) -> None:
        """Watch the model's blocks, their parts and all modules."""
        for index, block in enumerate(self._decoder.blocks):
            # Before the hooks that are there, which run again when it is called like this.
            call = block.register_forward_pre_hook(self._call_block, prepend=True, with_kwargs=True)
            undo.callback(call.remove)
            enter, leave = (partial(m, index) for m in (self._enter_block, self._leave_block))
            undo.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            undo.callback(block.register_forward_hook(leave).remove)
            for name, part in block.named_modules():
                # FSDP's classes are torch's, but keep the forward of the model's.
                if not type(part).forward.__module__.startswith("torch."):
                    self._watch_adds(part, name, undo)
        for wrapper in self._decoder.wrappers:
            undo.callback(wrapper.register_forward_hook(self._leave_wrapper).remove)
        for module in model.modules():
            enter = module.register_forward_pre_hook(self._read, with_kwargs=True)
            undo.callback(enter.remove)
            undo.callback(module.register_forward_hook(self._leave).remove)

    def _call_block(self, _: nn.Module, args: tuple, kwargs: dict[str, object]) -> None:
        named = {name: self._kept(value) for name, value in kwargs.items()}
        self._called = tuple(map(self._kept, args)), named

    def _kept(self, value: object) -> object:
        return value.clone() if self._is_rows(value) else value

    def _enter_block(
        self, index: int, _: nn.Module, args: tuple, kwargs: dict[str, object]
    ) -> None:
        cache = kwargs.get("past_key_values") if index == 0 else None
        if getattr(cache, "get_seq_length", int)():
            raise ModelStructureError(
                "the blocks are given a cache for every text (prefix tuning): patch the model"
                " within it"
            )
        hidden = next(self._rows_among(args, kwargs), None)
        if hidden is not None:
            self._block = index
            self.observed.blocks[index] = BlockRun(*self._called, Seen.of(hidden), hidden.clone())

    def _leave_block(self, index: int, block: nn.Module, _: tuple, output: object) -> None:
        run = self.observed.blocks.get(index)
        self._block = None
        if run is not None:
            stream = stream_of(block, output)
            run.result, run.rows = Seen.of(stream), stream.clone()
            self._last = run

    def _watch_adds(self, module: nn.Module, name: str, undo: ExitStack) -> None:
        if not is_replaced(module):  # as by tensor parallelism: not its own forward alone is run
            rewritten = rewrite(type(module).forward, partial(partial, self._add, name))
            if rewritten is not None:
                method = RewrittenForward(module, rewritten)
                method.install()
                undo.callback(method.restore)

    def _add(self, part: str, key: Key, a: Any, b: Any) -> Any:
        result = a + b
        run = self.observed.blocks.get(self._block) if self._block is not None else None
        if run is not None and isinstance(a, Tensor) and isinstance(b, Tensor):
            size, width = run.hidden.tensor.numel(), self._decoder.hidden_size
            if all(t.numel() == size and t.dim() > 0 for t in (a, b, result)) and all(
                t.shape[-1] == width for t in (a, b)
            ):
                given = [run.hidden.is_read_by(Seen.of(operand)) for operand in (a, b)]
                branch = given.index(False) if sum(given) == 1 else None
                at = len(self.observed.steps)
                run.additions.append(Addition(part, key, branch, Seen.of(result), at))
        return result

    def _read(self, module: nn.Module, args: tuple, kwargs: dict[str, object]) -> None:
        steps = self.observed.steps
        steps.append(Step(module, left=False))
        for rows in self._rows_among(args, kwargs):
            self.observed.reads.append(Read(module, Seen.of(rows), self._block, len(steps)))

    def _leave(self, module: nn.Module, _args: tuple, output: object) -> None:
        self.observed.steps.append(Step(module, left=True))
        if self._is_rows(output) and not any(True for _ in module.children()):
            self.observed.results[module] = output.clone()

    def _leave_wrapper(self, wrapper: nn.Module, _args: tuple, output: object) -> None:
        run, stream = self._last, stream_of(wrapper, output)
        if run is None or stream.shape != run.rows.shape:
            return
        if (stream - run.rows - run.given).norm() <= 1e-2 * run.given.norm():
            raise ModelStructureError(
                f"{type(wrapper).__name__} adds what its block returns to the residual stream, so"
                " that a block is a branch of it: such a model cannot be patched"
            )

    def _rows_among(self, args: tuple, kwargs: dict[str, object]) -> Iterator[Tensor]:
        for value in (*args, *kwargs.values()):
            if self._is_rows(value):
                yield value

    def _is_rows(self, value: object) -> TypeGuard[Tensor]:
        return isinstance(value, Tensor) and value.shape[-1:] == (self._decoder.hidden_size,)
