"""The forward of a patched model's decoder: each row's slot is decided once, here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from emokernel.compiling import constant_in_trace, keep_in_place
from emokernel.engines.base import Engine, ForwardCall
from emokernel.errors import SteeringError
from emokernel.patch.decoder import find_decoder
from emokernel.patch.placed import Placed
from emokernel.patch.surroundings import Surroundings
from emokernel.replaced import ReplacedMethod, forward_name, one_of_each_class
from emokernel.state import UNTOUCHED, DeviceState

# Where transformers keeps how the blocks within a module are checkpointed.
_CHECKPOINTING = "_gradient_checkpointing_func"


class Handle(Protocol):
    """What a patched model is steered with."""

    def copier(self) -> Callable[[nn.Module], Handle]:
        """What patches a deep copy of the model as the model is now, and returns its handle."""
        ...


def can_be_captured(state: DeviceState) -> bool:
    """Whether there are CUDA graphs of what runs on the device of ``state``."""
    return state.device_type == "cuda"


def is_captured(state: DeviceState) -> bool:
    """Whether what runs on the device of ``state`` is being recorded into a CUDA graph."""
    return can_be_captured(state) and torch.cuda.is_current_stream_capturing()


class DecoderForward(ReplacedMethod):
    """The forward of the decoder: asks once which slot each row has, then runs as before.

    The first of the ``engines`` that claims the call answers. A deep copy of ``model`` is patched
    like it, by its ``handle``, when it is used first.
    """

    def __init__(
        self,
        owner: nn.Module,
        placed: list[Placed],
        engines: Sequence[Engine],
        model: nn.Module,
        handle: Handle,
        surroundings: Surroundings,
        methods: Sequence[ReplacedMethod],
    ) -> None:
        """``methods``: those that were replaced in the blocks and norms."""
        super().__init__(owner, forward_name(owner))
        self._classes = one_of_each_class((*methods, self))
        self._placed, self._engines, self._surroundings = placed, tuple(engines), surroundings
        self._model, self._handle = model, handle
        self._states, self._layers = [each.state for each in placed], surroundings.layers
        self._names = list(inspect.signature(self.original).parameters)
        self._checkpointing = [
            vars(part) for part in owner.modules() if hasattr(part, "gradient_checkpointing")
        ]

    def restore(self) -> None:
        """Bring back the forward, and the model's own way of checkpointing."""
        super().restore()
        for attributes in self._checkpointing:
            function = attributes.get(_CHECKPOINTING)
            if isinstance(function, Remembering):
                attributes[_CHECKPOINTING] = function.function

    def __call__(self, *args: object, **kwargs: object) -> object:
        named = dict(zip(self._names, args, strict=False)) | kwargs if args else kwargs
        if named.get("input_ids") is None and named.get("inputs_embeds") is None:
            return self.original(*args, **kwargs)  # which says what is missing
        if torch.compiler.is_compiling():
            given = [name for name, value in named.items() if value is not None]
            engine = self._engines[self._prepare(*given)]
            return self._run(engine, ForwardCall(named, True), args, kwargs)
        captured = is_captured(self._states[0])
        for method in self._classes:
            method.check_class()
        self._surroundings.check()
        if not captured:
            for placed in self._placed:  # it may have been moved since
                placed.follow()
            if torch.is_grad_enabled():
                self._remember()
            if can_be_captured(self._states[0]):  # where it is now
                for engine in self._engines:
                    engine.prepare_capture(self._states)
        call = ForwardCall(named, captured)
        engine = self._engine(call)
        if captured:
            self._refuse_learning()
        return self._run(engine, call, args, kwargs)

    def _remember(self) -> None:
        """Wrap what `gradient_checkpointing_enable` has put there since."""
        for attributes in self._checkpointing:
            function = attributes.get(_CHECKPOINTING)
            if function is not None and not isinstance(function, Remembering):
                attributes[_CHECKPOINTING] = Remembering(function, self._states)

    def _refuse_learning(self) -> None:
        if any(state.learned is not None for state in self._states):
            raise SteeringError(
                "a model cannot be compiled or captured while vectors are learned: leave"
                " steering.learning(...) first"
            )

    def _engine(self, call: ForwardCall) -> Engine:
        for engine in self._engines:
            if engine.claims(call):
                return engine
        raise SteeringError(
            "no engine claims this call of the model: give patch(engines=...) one that does"
        )

    @constant_in_trace
    def _prepare(self, *names: str) -> int:
        """The number of the engine; runs while torch.compile traces, not in what it compiles."""
        if torch.compiler.is_exporting():  # asked in the trace itself, torch 2.11 always says so
            raise SteeringError(
                "torch.export makes a program that cannot be steered: unpatch() before it"
            )
        self._surroundings.check()
        for placed in self._placed:
            placed.follow()
        self._refuse_learning()
        engine = self._engine(ForwardCall(dict.fromkeys(names, ...), True))
        engine.prepare_trace(self._states)
        for state in self._states:
            state.readers.read()
            keep_in_place(*state.fixed)
        return self._engines.index(engine)

    def _run(
        self, engine: Engine, call: ForwardCall, args: tuple, kwargs: dict[str, object]
    ) -> object:
        compiling = torch.compiler.is_compiling()
        kept = [
            (running, running.token_slot, running.untouched, running.tables, running.steered)
            for running in [state.running for state in self._states]
        ]
        try:
            for state, (running, *_) in zip(self._states, kept, strict=True):
                if call.traced:
                    running.token_slot = engine.traced_token_slot(call, state)
                else:
                    with state.lock:  # which slots, and what they hold: both of one moment
                        state.readers.read()
                        running.token_slot = engine.token_slot(call, state)
                        running.tables = state.tables_of_call()
                if compiling:
                    if torch.is_grad_enabled():  # the backward pass reads them after later writes
                        running.tables = state.copied_tables()
                    continue
                running.untouched = state.constant_rows(running.token_slot.shape[0], UNTOUCHED)
                running.steered = set()
                running.counts = not torch.is_inference_mode_enabled()
            output = self.original(*args, **kwargs)
            if not (compiling or self.module.training) and (
                sum([len(running.steered) for running, *_ in kept]) < self._layers
            ):
                self._surroundings.check_ran(self._states)
            return output
        finally:
            for running, token_slot, untouched, tables, steered in kept:
                running.token_slot, running.untouched = token_slot, untouched
                running.tables, running.steered = tables, steered
                running.handed = None

    def __deepcopy__(self, memo: dict[int, Any]) -> object:
        return _copied(self, self._model, self._handle.copier(), memo)


class Remembering:
    """A checkpointing function that runs a block again with the rows of the first time.

    Checkpointed blocks are run again within the backward pass, outside of their model's forward,
    perhaps after another one and after other requests. So for each call it is remembered which slot
    every row had and what the slots held.
    """

    def __init__(self, function: Callable, states: Sequence[DeviceState]) -> None:
        self.function, self._states = function, states

    def __call__(self, block: Callable, *args: object, **kwargs: object) -> object:
        if torch.compiler.is_compiling():  # rows and slots are inputs of the graph
            return self.function(block, *args, **kwargs)
        kept = [(state, dict(vars(state.running))) for state in self._states]
        # Checkpointing of the reentrant kind gives gradients only if an input requires one.
        loses = (
            torch.is_grad_enabled()
            and any(state.learned is not None for state in self._states)
            and not any(isinstance(each, Tensor) and each.requires_grad for each in args)
        )

        def run(*args: object, **kwargs: object) -> object:
            if loses and not torch.is_grad_enabled():
                raise SteeringError(
                    "reentrant gradient checkpointing gives no gradient to the vectors that are"
                    " learned: pass gradient_checkpointing_kwargs={'use_reentrant': False}, or call"
                    " model.enable_input_require_grads()"
                )
            # Of this thread: on a GPU the backward pass runs in one of torch's own.
            now = [(state.running, then) for state, then in kept]
            outer = [dict(vars(running)) for running, _ in now]
            try:
                for running, then in now:
                    vars(running).update(then, checkpointed=True, handed=None)
                return block(*args, **kwargs)
            finally:
                for (running, _), own in zip(now, outer, strict=True):
                    vars(running).update(own, handed=None)

        return self.function(run, *args, **kwargs)

    def __reduce__(self) -> tuple[Callable, tuple[Callable]]:
        return copy.copy, (self.function,)  # the function itself


def _copied(
    method: ReplacedMethod,
    model: nn.Module,
    patch_copy: Callable[[nn.Module], Handle],
    memo: dict[int, Any],
) -> object:
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

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.patch()
        return getattr(self.module, self.name)(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> object:
        return _copied(self, self._model, self._patch_copy, memo)


class NoReplica(ReplacedMethod):
    """Stands in the way of `nn.DataParallel`, and nobody wraps it: it has the model's ``handle``.

    Replicas keep the attributes of the module, so they would run the replaced forwards, and
    with these the weights, of the model that was patched.
    """

    def __init__(self, owner: nn.Module, handle: Handle) -> None:
        super().__init__(owner, "_replicate_for_data_parallel")
        self.handle = handle

    def __call__(self) -> NoReturn:
        raise SteeringError(
            "nn.DataParallel cannot copy a patched model to several devices: use"
            " DistributedDataParallel, or unpatch() first"
        )


def handle_of(model: nn.Module) -> Handle | None:
    """The handle of a patched model; a copy of one is patched now. None if it is not patched."""
    for method in list(vars(find_decoder(model).owner).values()):
        if isinstance(method, PatchedOnUse):
            return method.patch()
        if isinstance(method, NoReplica):  # which no tool wraps
            return method.handle
    return None
