"""What runs in a patched model: its adds, its norms, its blocks and its decoder."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.ops import Backend, differentiable, select
from emokernel.patch.between import Between
from emokernel.patch.checkpointing import Checkpoints, checkpointed
from emokernel.patch.decoder import Decoder, device_of, map_stream
from emokernel.patch.norms import FusedNorm, are_trained
from emokernel.patch.replaced import ReplacedMethod, forward_name
from emokernel.patch.standing import Standing
from emokernel.patch.tracing import (
    TracedAdd,
    add_in_trace,
    constant_in_trace,
    steer_in_trace,
    tables_in_trace,
    traced_norm,
)
from emokernel.state import UNTOUCHED, DeviceState, next_serial

STREAM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def is_patched(decoder: Decoder) -> bool:
    """Whether methods of the decoder are replaced by emokernel's, which other tools may wrap."""
    return any(isinstance(value, ReplacedMethod) for value in vars(decoder.owner).values())


class Placed:
    """The state and the backend of one device, which follow the model when it is moved or cast.

    ``block`` is one that lives there; where its first parameter of floating type goes, they go.
    """

    def __init__(self, state: DeviceState, forced: str | None, block: nn.Module) -> None:
        self.state, self._forced = state, forced
        self.backend: Backend = select(state.device, forced)
        self._block, self._at = block, _first_weight(block)
        self._home, first = self._weight()
        self._dtype = state.dtype if first is None else first.dtype

    def _weight(self) -> tuple[nn.Module, Tensor | None]:
        """(Module, parameter), looked up by name, since tools replace modules."""
        for _ in range(2):
            holder: nn.Module | None = self._block
            *way, name = self._at.split(".")
            for part in way:
                holder = None if holder is None else holder._modules.get(part)
            if holder is not None and name in holder._parameters:
                parameter = holder._parameters[name]
                if parameter is None or parameter.is_floating_point():
                    return holder, parameter
            self._at = _first_weight(self._block)
        return self._block, None

    def follow(self) -> None:
        """Move the state if the model has moved; SteeringError for a dtype without kernels."""
        home, parameter = self._weight()
        if parameter is None:
            return
        device = device_of(home, parameter)
        if device.type == "meta":
            device = self.state.device
        if home is not self._home:  # a tool's module, in a dtype of its own: that is no cast
            self._home, self._dtype = home, parameter.dtype
        if parameter.dtype is self._dtype and device == self.state.device:
            return
        dtype = parameter.dtype if self.state.dtype is self._dtype else self.state.dtype
        if dtype not in STREAM_DTYPES:
            raise SteeringError(
                f"the model was cast to {dtype}; the kernels know fp32, bf16 and fp16: cast it to"
                " one of them, or unpatch()"
            )
        self.backend = select(device, self._forced)
        self.state.move(device, dtype)
        self._dtype = parameter.dtype


def _first_weight(block: nn.Module) -> str:
    """The name of its first parameter of floating type, "" if there is none."""
    parameters = block.named_parameters()
    return next((name for name, each in parameters if each.is_floating_point()), "")


class NormForward(ReplacedMethod):
    """The forward of a norm that an `Add` computes ahead, for the very rows that it returned.

    For any other input, rows that a hook has replaced for one, it computes as ever.
    """

    def __init__(self, norm: FusedNorm, placed: Placed) -> None:
        super().__init__(norm.module, forward_name(norm.module))
        self.norm, self.placed, self._state = norm, placed, placed.state
        self.serial = next_serial()

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        tracing = torch.compiler.is_compiling()
        if tracing and not self._may_be_handed(self._state.serial):
            return self.original(hidden_states, *args, **kwargs)
        if not tracing:
            self.check_class()
        running = self._state.running
        handed = running.handed
        if handed is not None and handed[2] == self.serial:
            running.handed = None
            rows, normed, _, version = handed
            if version is None or rows._version == version:
                if rows is hidden_states:
                    return normed
                if not tracing and _same_memory(rows, hidden_states):
                    return normed.view(hidden_states.shape)
        return self.original(hidden_states, *args, **kwargs)

    @constant_in_trace
    def _may_be_handed(self, serial: str) -> bool:
        return self.placed.backend.fuses_compiled


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (
        a.data_ptr() == b.data_ptr()
        and a.numel() == b.numel()
        and a.dtype is b.dtype
        and b.is_contiguous()
    )


class Add:
    """One residual add of a patched model: x + residual, then the law, then perhaps a norm.

    Called in the place of ``a + b``. ``steered``: whether this add is the layer's site; where it is
    not, its rows are untouched, and it is there for the norm that it computes ahead.
    """

    def __init__(self, placed: Placed, layer: int, steered: bool) -> None:
        self.placed, self._state, self._layer, self.steered = placed, placed.state, layer, steered
        self.norm: NormForward | None = None
        self._attributes: Mapping[str, Any] = {}
        self._between: Between | None = None

    def compute_ahead(self, norm: NormForward, between: Between) -> None:
        """Run ``norm`` with this add, unless something foreign stands ``between`` them."""
        self.norm, self._attributes, self._between = norm, vars(norm.module), between

    def obstacle(self) -> str | None:
        """Why the norm is not computed ahead now, although it could be."""
        return None if self._between is None else self._between.obstacle()

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._in_trace(a, b)
        state = self._state
        running = state.running
        if self.steered:
            slots = running.token_slot
            running.steered.add(self._layer)
        else:
            slots = running.untouched
        if slots is None:
            _refuse_alone()
        if a.dtype is not b.dtype or a.shape != b.shape:  # what torch promotes or broadcasts
            y = a + b
            return _steered(y, slots, self.placed, self._layer) if self.steered else y
        basis, ids, weights, law = (running.tables or state.tables)[self._layer]
        if a.dtype is not state.dtype:
            _check_dtype(a, basis, state)
        if not a.is_contiguous():
            a = a.contiguous()
        if not b.is_contiguous():
            b = b.contiguous()
        norm = self.norm
        if torch.is_grad_enabled():
            if any(t.requires_grad for t in (a, b, basis)):
                if not self.steered:
                    return a + b
                return differentiable.add_steer(
                    a, b, basis, slots, ids, weights, law, backend=self.placed.backend
                )
            if norm is not None and are_trained(norm.module._parameters):
                norm = None
        if (
            norm is not None
            and not running.checkpointed
            and self._between.is_clear()
            and not torch.is_autocast_enabled(a.device.type)
        ):
            fused = norm.norm.run(self.placed.backend, a, b, (basis, slots, ids, weights, law))
            if fused is not None:
                normed, y = fused
                # Torch counts no writes to what is made in inference mode.
                version = None if y.is_inference() else y._version
                running.handed = y, normed, norm.serial, version
                return y
        return self.placed.backend.add_steer(a, b, basis, slots, ids, weights, law)

    def _in_trace(self, a: Tensor, b: Tensor) -> Tensor:
        it = self._traced(self._state.serial)
        slots = self._state.running.token_slot
        if slots is None:
            _refuse_alone()
        kept = self._state.running.tables
        if kept is None:
            tables = tables_in_trace(it, slots)
        else:
            basis, *rest = kept[self._layer]
            tables = basis, slots, *rest
        mixed = a.dtype is not b.dtype or a.shape != b.shape
        y = a + b if mixed else a
        if y.dtype is not it.state.dtype:
            _check_dtype(y, tables[0], it.state)
        if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
            y = y if mixed else a + b
            return differentiable.steer(y, *tables, backend=self.placed.backend)
        if mixed:
            return steer_in_trace(it, y, tables)
        return add_in_trace(it, a, b, tables, self._attributes, self._state.running)

    @constant_in_trace
    def _traced(self, serial: str) -> TracedAdd:
        backend, norm = self.placed.backend, None
        self._state.traced.add(self._layer)
        fuses = backend.fuses_compiled and self.norm is not None
        if fuses and self._between.is_clear():
            norm = traced_norm(self.norm.norm, self.norm.serial, self._state.basis[self._layer])
        return TracedAdd(self._state, self._layer, backend.namespace, norm)


def _steered(rows: Tensor, slots: Tensor, placed: Placed, layer: int) -> Tensor:
    """The law alone, for rows that are there already."""
    state = placed.state
    basis, ids, weights, law = (state.running.tables or state.tables)[layer]
    if rows.dtype is not state.dtype:
        _check_dtype(rows, basis, state)
    tables = basis, slots, ids, weights, law
    if torch.is_grad_enabled() and (rows.requires_grad or basis.requires_grad):
        return differentiable.steer(rows, *tables, backend=placed.backend)
    return placed.backend.steer(rows.contiguous(), *tables)


def _refuse_alone() -> NoReturn:
    raise SteeringError(
        "a patched block was called outside of its model's forward: call the model, or unpatch()"
        " first"
    )


def _check_dtype(rows: Tensor, basis: Tensor, state: DeviceState) -> None:
    """SteeringError for rows of another dtype than the model had, unless autocast made them.

    Rows of any dtype can be steered with vectors in fp32, which those of a model in fp32 are.
    """
    if torch.is_autocast_enabled(rows.device.type):
        if rows.dtype in STREAM_DTYPES and basis.dtype in (rows.dtype, torch.float32):
            return
        raise SteeringError(
            f"autocast turns the residual stream from {state.dtype} into {rows.dtype}: patch the"
            " model in float32 and leave the rest to autocast, or do without"
        )
    raise SteeringError(
        f"the residual stream is {rows.dtype}, but was {state.dtype} when the model was patched:"
        " unpatch() and patch again"
    )


class RewrittenForward(ReplacedMethod):
    """The forward of a module with some of its adds replaced."""

    def __init__(
        self, module: nn.Module, function: FunctionType, traced: FunctionType | None = None
    ) -> None:
        """``traced``: what torch.compile traces, where that is not ``function``."""
        super().__init__(module, forward_name(module))
        forward = type(module).forward
        self._function, self._in_training = function, checkpointed(function, forward)
        self._traced = function if traced is None else traced
        self._traced_in_training = checkpointed(self._traced, forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            function = self._traced_in_training if self.module.training else self._traced
        else:
            self.check_class()
            function = self._in_training if self.module.training else self._function
        return function(self.module, *args, **kwargs)


class SteeredOutput(ReplacedMethod):
    """The forward of a block whose last add cannot be seen: what it returns is steered."""

    def __init__(self, block: nn.Module, placed: Placed, layer: int) -> None:
        super().__init__(block, forward_name(block))
        self._placed, self._layer = placed, layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        running = self._placed.state.running
        slots = running.token_slot
        if slots is None:
            _refuse_alone()
        if torch.compiler.is_compiling():
            self._is_traced()
        else:
            running.steered.add(self._layer)
        return map_stream(
            self.original(*args, **kwargs),
            lambda rows: _steered(rows, slots, self._placed, self._layer),
        )

    @constant_in_trace
    def _is_traced(self) -> bool:
        self._placed.state.traced.add(self._layer)
        return True


class Handle(Protocol):
    """What a patched model is steered with."""

    def copier(self) -> Callable[[nn.Module], Handle]:
        """What patches a deep copy of the model as the model is now, and returns its handle."""


@dataclass(frozen=True)
class RowSource:
    """Who says which slot each row of a call has: int32 ``token_slot``, on the state's device.

    ``of_call(named arguments, state)`` is asked in every call. A forward that torch.compile traces,
    or that a CUDA graph captures, calls ``of_trace(named arguments, state)`` that once: tensor
    operations, which then stand for all calls to come. Before a trace, ``prepare(states, names of
    the arguments)``.
    """

    of_call: Callable[[Mapping[str, Any], DeviceState], Tensor]
    prepare: Callable[[Sequence[DeviceState], Sequence[str]], None]
    of_trace: Callable[[Mapping[str, Any], DeviceState], Tensor]


def can_be_captured(device: torch.device) -> bool:
    """Whether there are CUDA graphs of what runs on ``device``."""
    return device.type == "cuda"


def is_captured(device: torch.device) -> bool:
    """Whether what runs on ``device`` is being recorded into a CUDA graph."""
    return can_be_captured(device) and torch.cuda.is_current_stream_capturing()


class DecoderForward(ReplacedMethod):
    """The forward of the decoder: decides once which slot each row has, then runs as before.

    A deep copy of ``model`` is patched like it, by ``handle``, when it is used first.
    """

    def __init__(
        self,
        owner: nn.Module,
        placed: list[Placed],
        rows: RowSource,
        model: nn.Module,
        handle: Handle,
        standing: Standing,
    ) -> None:
        super().__init__(owner, forward_name(owner))
        self._placed, self._rows, self._standing = placed, rows, standing
        self._model, self.handle = model, handle
        self._states = [each.state for each in placed]
        self._names = list(inspect.signature(self.original).parameters)
        self._checkpoints = Checkpoints(owner, self._states)

    def restore(self) -> None:
        """Bring back the forward, and the model's own way of checkpointing."""
        super().restore()
        self._checkpoints.remove()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self._names, args, strict=False)) | kwargs if args else kwargs
        if named.get("input_ids") is None and named.get("inputs_embeds") is None:
            return self.original(*args, **kwargs)  # which says what is missing
        if torch.compiler.is_compiling():
            self._prepare(*named)
            return self._run(self._rows.of_trace, named, args, kwargs)
        if is_captured(self._states[0].device):
            return self._run(self._rows.of_trace, named, args, kwargs)
        self.check_class()
        self._standing.check()
        for placed in self._placed:
            placed.follow()
        if torch.is_grad_enabled():
            self._checkpoints.remember()
        return self._run(self._rows.of_call, named, args, kwargs)

    @constant_in_trace
    def _prepare(self, *names: str) -> None:
        """Runs while torch.compile traces, not in what it compiles."""
        if torch.compiler.is_exporting():  # asked in the trace itself, torch 2.11 always says so
            raise SteeringError(
                "torch.export makes a program that cannot be steered: unpatch() before it"
            )
        self._standing.check()
        for placed in self._placed:
            placed.follow()
        self._rows.prepare(self._states, names)

    def _run(
        self,
        rows: Callable[[Mapping[str, Any], DeviceState], Tensor],
        named: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        states = self._states
        outer = [
            (running.token_slot, running.untouched, running.tables, running.steered)
            for running in (state.running for state in states)
        ]
        try:
            for state in states:
                running = state.running
                if torch.compiler.is_compiling():
                    running.token_slot = rows(named, state)
                    if torch.is_grad_enabled():  # the backward pass reads them after later writes
                        running.tables = state.cloned_tables()
                    continue
                with state.lock:  # which slots, and what they hold: both of one moment
                    running.token_slot = rows(named, state)
                    if rows is self._rows.of_call:
                        running.tables = state.tables_of_call()
                running.untouched = state.constant_rows(running.token_slot.shape[0], UNTOUCHED)
                running.steered = set()
            output = self.original(*args, **kwargs)
            if not (torch.compiler.is_compiling() or self.module.training):
                self._standing.check_ran(*(s.running.steered | s.traced for s in states))
            return output
        finally:
            for state, kept in zip(states, outer, strict=True):
                running = state.running
                running.token_slot, running.untouched, running.tables, running.steered = kept
                running.handed = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _copied(self, self._model, self.handle.copier(), memo)


def _copied(
    method: ReplacedMethod,
    model: nn.Module,
    patch_copy: Callable[[nn.Module], Handle],
    memo: dict[int, Any],
) -> Any:
    """What stands in the copy of a model where ``method`` stands in the model."""
    owner = copy.deepcopy(method.module, memo)
    if id(model) not in memo:  # a part of the model is copied, not the model
        return getattr(owner, method.name)
    return PatchedOnUse(owner, method.name, memo[id(model)], patch_copy)


class PatchedOnUse(ReplacedMethod):
    """The forward of the decoder of a copied model: patches the copy, which is complete by then."""

    def __init__(
        self,
        owner: nn.Module,
        name: str,
        model: nn.Module,
        patch_copy: Callable[[nn.Module], Handle],
    ) -> None:
        # The copy is still being made: nothing can be looked up in it yet.
        self.module, self.name = owner, name
        self._model, self._patch_copy = model, patch_copy

    def patch(self) -> Handle:
        """Patch the copy now; its handle."""
        vars(self.module).pop(self.name)
        return self._patch_copy(self._model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.patch()
        return getattr(self.module, self.name)(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _copied(self, self._model, self._patch_copy, memo)
