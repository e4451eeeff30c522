"""The residual adds of a patched model, and the norms that run with them.

Before every call torch.compile checks each object that it read while tracing. A steered add reads
dozens, in every layer. So it asks for one constant that holds them all, by a function that
torch.compile runs once and does not look into, and one string is checked in the place of them:
`DeviceState.serial`, which changes whenever the tensors of the state do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, is_autocast_enabled, is_grad_enabled, nn
from torch.compiler import is_dynamo_compiling

from emokernel import reference
from emokernel.compiling import constant_in_trace
from emokernel.errors import SteeringError
from emokernel.ops import differentiable
from emokernel.patch.norms import FusedNorm, arguments_as_they_are, norm_arguments
from emokernel.patch.observe import same_memory
from emokernel.patch.placed import Placed
from emokernel.patch.surroundings import Way
from emokernel.reference import STREAM_DTYPES
from emokernel.replaced import ReplacedMethod, forward_name
from emokernel.state import DeviceState
from emokernel.state.device import Running, Tables, next_serial, views_of_layer


class NormForward(ReplacedMethod):
    """The forward of a norm that an `Add` computes ahead, for the very rows that it returned.

    For any other input, rows that a hook has replaced for one, it computes as ever.
    """

    def __init__(self, norm: FusedNorm, placed: Placed) -> None:
        super().__init__(norm.module, forward_name(norm.module))
        self.norm, self.placed, self._state = norm, placed, placed.state
        self._of_thread = placed.state.of_thread
        self.serial = next_serial()

    def __call__(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        tracing = is_dynamo_compiling()
        if tracing and not self._may_be_handed():
            return self.original(hidden_states, *args, **kwargs)
        running = self._of_thread.running
        handed = running.handed
        if handed is not None and handed[2] == self.serial:
            running.handed = None
            rows, normed, _, counted = handed
            if (tracing and not counted) or _is_unwritten(rows, counted):
                if rows is hidden_states:
                    return normed
                if not tracing and same_memory(rows, hidden_states):
                    return normed.view(hidden_states.shape)
        if not tracing:
            self.check_class()
        return self.original(hidden_states, *args, **kwargs)

    @constant_in_trace
    def _may_be_handed(self) -> bool:
        return self.placed.backend.fuses_compiled


class Add:
    """One residual add of a patched model: x + residual, then the law, then perhaps a norm.

    Called in the place of ``a + b``. ``steered``: whether this add is the layer's site; where it is
    not, its rows are untouched, and it is there for the norm that it computes ahead. ``ahead`` is
    that norm, and the way of the rows to it, in which nothing foreign may stand.
    """

    def __init__(self, placed: Placed, layer: int, steered: bool) -> None:
        self.placed, self._state, self._layer, self.steered = placed, placed.state, layer, steered
        self._of_thread = placed.state.of_thread
        self.ahead: tuple[NormForward, Way] | None = None
        self._attributes: Mapping[str, Any] = {}
        self._way: Way | None = None
        self._read: Callable[[], tuple | None] | None = None
        self._operation, self._serial = "", ""
        # Whether the operations have taken all that was given so far as it was.
        self._is_plain = True

    def compute_ahead(self, norm: NormForward, way: Way) -> None:
        """Run ``norm`` with this add, unless something foreign stands in the ``way``."""
        self.ahead, self._attributes = (norm, way), vars(norm.module)
        self._way, self._operation, self._serial = way, norm.norm.operation, norm.serial
        self._read = arguments_as_they_are(norm.norm, self._attributes)
        self._is_plain = self._read is not None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if is_dynamo_compiling():
            # torch.compile itself fuses the others with their norms, and with more than that.
            return self._in_trace(a, b) if self.steered else a + b
        running = self._of_thread.running
        if self.steered:
            slots = running.token_slot
            running.steered.add(self._layer)
        else:
            slots = running.untouched
        if slots is None:
            _refuse_alone()
        tables = running.tables
        if (
            not self._is_plain
            or tables is None
            or is_grad_enabled()
            or a.dtype is not self._state.dtype
        ):
            return self._with_care(a, b, running, slots)
        try:
            return self._at_once(a, b, running, slots, tables[self._layer])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # it took an operand for what it is not, or tells so again
            y = self._with_care(a, b, running, slots)
            self._is_plain = False
            return y

    def _at_once(
        self, a: Tensor, b: Tensor, running: Running, slots: Tensor, tables: Tables
    ) -> Tensor:
        """Without a look at what the operation looks at too: it refuses what does not fit."""
        basis, ids, weights, law = tables
        way = self._way
        if (
            way is None
            or self._read is None
            or running.checkpointed
            or not way.is_clear()
            or is_autocast_enabled(self._state.device_type)
            or (arguments := self._read()) is None
        ):
            return self.placed.backend.add_steer(a, b, basis, slots, ids, weights, law)
        operation = getattr(self.placed.backend, self._operation)
        normed, y = operation(a, b, *arguments, basis, slots, ids, weights, law)
        running.handed = y, normed, self._serial, running.counts
        return y

    def _with_care(self, a: Tensor, b: Tensor, running: Running, slots: Tensor) -> Tensor:
        """The same of any operands."""
        state = self._state
        basis, ids, weights, law = (running.tables or state.tables)[self._layer]
        gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (a, b, basis))
        # The others are what torch promotes or broadcasts.
        if gradient or a.dtype is not b.dtype or a.shape != b.shape:
            y = a + b
            return _steered_rows(y, slots, self.placed, self._layer) if self.steered else y
        if a.dtype is not state.dtype:
            _check_dtype(a, basis, state)
        a, b, tables = a.contiguous(), b.contiguous(), (basis, slots, ids, weights, law)
        if self.ahead is not None and not running.checkpointed and self.ahead[1].is_clear():
            arguments = norm_arguments(self.ahead[0].norm, self._attributes, a)
            if arguments is not None:
                norm = self.ahead[0]
                operation = getattr(self.placed.backend, norm.norm.operation)
                normed, y = operation(a, b, *arguments, *tables)
                running.handed = y, normed, norm.serial, running.counts
                return y
        return self.placed.backend.add_steer(a, b, *tables)

    def _in_trace(self, a: Tensor, b: Tensor) -> Tensor:
        it = self._traced(self._state.serial)
        running, state = self._state.running, it.state
        if running.token_slot is None:
            _refuse_alone()
        basis, ids, weights, law = (
            views_of_layer(state.basis, state.records, state.record_floats, it.layer)
            if running.tables is None
            else running.tables[self._layer]
        )
        tables = basis, running.token_slot, ids, weights, law
        mixed = a.dtype is not b.dtype or a.shape != b.shape
        y = a + b if mixed else a
        if y.dtype is not state.dtype:
            _check_dtype(y, basis, state)
        if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
            y = y if mixed else a + b
            return differentiable.steer(y, *tables, backend=self.placed.backend)
        if it.namespace is None:
            return reference.steer(y if mixed else a + b, *tables)
        operations = getattr(torch.ops, it.namespace)
        if mixed:
            return operations.steer.default(y.contiguous(), *tables)
        a, b = a.contiguous(), b.contiguous()
        arguments = None if it.norm is None else norm_arguments(it.norm, self._attributes, a)
        if it.norm is None or arguments is None:
            return operations.add_steer.default(a, b, *tables)
        operation = getattr(operations, it.norm.operation).default
        normed, y = operation(a, b, *arguments, *tables)
        running.handed = y, normed, it.norm_serial, False
        return y

    @constant_in_trace
    def _traced(self, serial: str) -> TracedAdd:
        backend = self.placed.backend
        self._state.traced.add(self._layer)
        norm, number = None, ""
        if backend.fuses_compiled and self.ahead is not None and self.ahead[1].is_clear():
            norm, number = self.ahead[0].norm, self.ahead[0].serial
        return TracedAdd(self._state, self._layer, backend.namespace, norm, number)


@dataclass(frozen=True)
class TracedAdd:
    """The constant of a steered add.

    ``namespace`` of ``torch.ops`` has the operations; None: the law is traced as torch's own.
    ``norm``: the norm that it computes too, ``norm_serial`` whose result that is.
    """

    state: DeviceState
    layer: int
    namespace: str | None
    norm: FusedNorm | None
    norm_serial: str


class SteeredOutput(ReplacedMethod):
    """The forward of a block whose last add cannot be seen: what it returns is steered."""

    def __init__(self, block: nn.Module, placed: Placed, layer: int) -> None:
        super().__init__(block, forward_name(block))
        self._placed, self._layer = placed, layer

    def __call__(self, *args: object, **kwargs: object) -> object:
        running = self._placed.state.running
        slots = running.token_slot
        if slots is None:
            _refuse_alone()
        if torch.compiler.is_compiling():
            self._is_traced()
        else:
            running.steered.add(self._layer)
        output: Any = self.original(*args, **kwargs)
        if isinstance(output, tuple | list):
            rows = _steered_rows(output[0], slots, self._placed, self._layer)
            return type(output)([rows, *output[1:]])
        return _steered_rows(output, slots, self._placed, self._layer)

    @constant_in_trace
    def _is_traced(self) -> bool:
        self._placed.state.traced.add(self._layer)
        return True


def _is_unwritten(rows: Tensor, counted: bool) -> bool:
    """Whether nobody has written to fresh rows, as far as torch counts that.

    In inference mode it does not, and to ask for the count is an error. ``counted`` is a guess,
    which saves one question.
    """
    try:
        return (not counted and rows.is_inference()) or rows._version == 0
    except RuntimeError:
        return True


def _steered_rows(rows: Tensor, slots: Tensor, placed: Placed, layer: int) -> Tensor:
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
