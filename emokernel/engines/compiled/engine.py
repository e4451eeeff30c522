"""Compiled and captured forwards: what they read is written when something else is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from emokernel.compiling import constant_in_trace, keep_in_place
from emokernel.engines.base import Engine, ForwardCall
from emokernel.engines.callers import Caller
from emokernel.engines.compiled.plan_buffer import PlanBuffer, compile_whole, token_slot
from emokernel.engines.requested import Requested
from emokernel.engines.texts import Generation, read_traced_call
from emokernel.errors import SteeringError
from emokernel.state import DeviceState


class CompiledForwards(Engine):
    """Makes a `PlanBuffer` for each device when one is needed, and keeps it true, in any thread."""

    def __init__(self, requested: Requested) -> None:
        self._requested = requested
        requested.callers.listen(self)

    def claims(self, call: ForwardCall) -> bool:
        """Whatever is traced."""
        return call.traced

    def prepare_trace(self, states: Sequence[DeviceState]) -> None:
        """Make the buffers, and write what is asked for."""
        self._requested.callers.current()
        compile_whole()
        for state in states:
            keep_in_place(*self.used(state).fixed)

    def prepare_capture(self, states: Sequence[DeviceState]) -> None:
        """Make the buffers: within the capture it is too late."""
        for state in states:
            if state.plan_buffer is None:
                self.made(state)

    def traced_token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """By tensor operations, from the buffer."""
        if state.plan_buffer is None:
            raise SteeringError("run the model once before a CUDA graph captures it")
        if not torch.compiler.is_compiling():
            self.used(state)
        return token_slot(state.plan_buffer, read_traced_call(call, self._is_generating()))

    @constant_in_trace
    def _is_generating(self) -> bool:
        """Asked while torch.compile traces, not later."""
        return self._requested.callers.generation() is not None

    def made(self, state: DeviceState) -> PlanBuffer:
        """The buffer of a device, made if there is none yet."""
        with self._requested.states.lock:
            if state.plan_buffer is None:
                state.plan_buffer = PlanBuffer(self._requested.sequences, state.device)
                self.announce()
            return state.plan_buffer

    def used(self, state: DeviceState) -> PlanBuffer:
        """The same, which what is traced now reads; SteeringError if it cannot."""
        with self._requested.states.lock:
            buffer = self.made(state)
            self._requested.callers.check_alone()
            buffer.use()
            return buffer

    def announce(self) -> None:
        """Write what is asked for now."""
        buffers = list(self._buffers())
        if not buffers:
            return
        plan = prompts = problem = None
        try:
            plan, prompts = self._requested.of_one_caller()
        except SteeringError as error:
            problem = error
        for state, buffer in buffers:
            if buffer.used:  # forwards on other streams that are on their way read the whole of it
                state.readers.wait_for_all()
            buffer.show(plan, prompts, problem)

    def clear(self) -> None:
        """Steer by nothing."""
        for _, buffer in self._buffers():
            buffer.show(None, None)

    def left(self, caller: Caller) -> None:
        """SteeringError if what a caller asked for was not done without Python.

        For a batch that did not fit, or a generation that went on when its requests were closed.
        """
        used = [buffer for _, buffer in self._buffers() if buffer.used]
        if any([buffer.take_misfit() for buffer in used]):
            raise SteeringError(
                "a compiled or captured call had a batch that is no multiple of the requests, and"
                " was not steered: give one request per sequence"
            )
        if used and isinstance(caller, Generation) and caller.outlived:
            raise SteeringError(
                "the requests block within which this generation began was closed before its end:"
                " what it made since was not steered; wait for it within the block"
            )

    def _buffers(self) -> Iterator[tuple[DeviceState, PlanBuffer]]:
        for state in self._requested.states.devices:
            if state.plan_buffer is not None:
                yield state, state.plan_buffer
