"""The forwards that replace a model's own, on instances only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.ops import Backend
from emokernel.ops.reference import BACKEND as DIFFERENTIABLE
from emokernel.patch.norms import FusedNorm
from emokernel.patch.structure import SequentialBlock
from emokernel.state import UNTOUCHED, DeviceState


class ReplacedMethod:
    """A method replaced on one instance; `restore` brings back what was there.

    Pickling or deep-copying the module gives the module's own method again.
    """

    def __init__(self, module: nn.Module, name: str = "forward") -> None:
        self.module, self.name = module, name
        self.original = getattr(module, name)
        self._had_own = vars(module).get(name)

    def install(self) -> None:
        """Put this object in the place of the method."""
        vars(self.module)[self.name] = self

    def restore(self) -> None:
        """Bring back the method that was there before."""
        if self._had_own is None:
            vars(self.module).pop(self.name, None)
        else:
            vars(self.module)[self.name] = self._had_own

    def __reduce__(self) -> tuple[Callable, tuple[nn.Module, str]]:
        return getattr, (self.module, self.name)


class SequentialForward(ReplacedMethod):
    """The forward of a sequential pre-norm block, steered at one site.

    Site "attention": residual add, steering and the following norm are one operation. Site
    "block": the residual add at the end of the block and the steering are one operation, and the
    one after the attention branch fuses its norm with nothing set.
    """

    def __init__(
        self,
        block: nn.Module,
        structure: SequentialBlock,
        site: str,
        state: DeviceState,
        layer: int,
        backend: Backend,
        norm: FusedNorm | None,
    ) -> None:
        super().__init__(block)
        self._structure, self._at_attention = structure, site == "attention"
        self._state, self._tables, self._backend = state, state.layer(layer), backend
        self._norm = norm
        self._input_norm = getattr(block, structure.input_norm)
        self._attention = getattr(block, structure.attention)
        self._post_attention_norm = getattr(block, structure.post_attention_norm)
        self._mlp = getattr(block, structure.mlp)
        self._names = list(inspect.signature(self.original).parameters)[1:]
        accepted = inspect.signature(self._attention.forward).parameters.values()
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted)
        # What the block keeps to itself; everything else travels on, as far as it is taken.
        self._kept = frozenset(self._names) - structure.attention_arguments
        self._passed = None if takes_any else structure.attention_arguments

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.module.training:
            self._check_training()
        if hidden_states.dtype is not self._state.dtype:
            raise SteeringError(
                f"the residual stream is {hidden_states.dtype}, but was {self._state.dtype} when"
                " the model was patched: unpatch() and patch again"
            )
        residual = hidden_states if hidden_states.is_contiguous() else hidden_states.contiguous()
        branch = self._run_attention(self._input_norm(residual), args, kwargs)
        token_slot = self._state.token_slot
        rows = residual.numel() // residual.shape[-1]
        if token_slot is None or token_slot.numel() < rows:
            raise SteeringError(
                "a patched block was called outside of its model's forward: call the model, or"
                " unpatch() first"
            )
        if self._at_attention:
            at_attention = token_slot
        else:
            at_attention = self._state.constant_rows(rows, UNTOUCHED)
        normed, stream = self._add_and_norm(branch, residual, at_attention)
        branch = self._mlp(normed)
        output = stream + branch if self._at_attention else self._add(branch, stream, token_slot)
        return (output,) if self._structure.returns_tuple else output

    def _check_training(self) -> None:
        if self._structure.random_in_training or getattr(
            self.module, "gradient_checkpointing", False
        ):
            raise SteeringError(
                "patched blocks do not run dropout or gradient checkpointing yet: call"
                " model.eval(), or unpatch() to train"
            )

    def _run_attention(self, normed: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            kwargs.update(zip(self._names, args, strict=False))
        if self._passed is not None:
            kwargs = {name: kwargs[name] for name in self._passed if name in kwargs}
        elif not self._kept.isdisjoint(kwargs):
            kwargs = {name: value for name, value in kwargs.items() if name not in self._kept}
        if self._structure.hidden_argument is None:
            output = self._attention(normed, **kwargs)
        else:
            output = self._attention(**{self._structure.hidden_argument: normed}, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _choose(self, *tensors: Tensor) -> Backend:
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return DIFFERENTIABLE
        return self._backend

    def _add_and_norm(
        self, branch: Tensor, residual: Tensor, token_slot: Tensor
    ) -> tuple[Tensor, Tensor]:
        norm = self._norm
        # Under autocast the branch may come in another dtype: the sum promotes, as it would.
        if norm is None or norm.hooked or branch.dtype is not residual.dtype:
            stream = self._add(branch, residual, token_slot)
            return self._post_attention_norm(stream), stream
        ops = self._choose(branch, residual, norm.weight)
        return ops.add_steer_rms_norm(
            branch, residual, norm.weight, norm.eps, norm.cast, self._tables[0], token_slot,
            *self._tables[1:],
        )  # fmt: skip

    def _add(self, branch: Tensor, residual: Tensor, token_slot: Tensor) -> Tensor:
        basis, *slots = self._tables
        ops = self._choose(branch, residual)
        if branch.dtype is residual.dtype:
            return ops.add_steer(branch, residual, basis, token_slot, *slots)
        return ops.steer(residual + branch, basis, token_slot, *slots)


class DecoderForward(ReplacedMethod):
    """The forward of the decoder: decides once which slot each row has, then runs as before.

    ``rows(named arguments)`` gives the int32 ``token_slot`` of this call on a given device.
    """

    def __init__(
        self,
        owner: nn.Module,
        states: list[DeviceState],
        rows: Callable[[dict[str, Any], DeviceState], Tensor],
    ) -> None:
        super().__init__(owner)
        self._states, self._rows = states, rows
        self._names = list(inspect.signature(self.original).parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self._names, args, strict=False)) | kwargs if args else kwargs
        outer = [state.token_slot for state in self._states]
        for state in self._states:
            state.token_slot = self._rows(named, state)
        try:
            return self.original(*args, **kwargs)
        finally:
            for state, token_slot in zip(self._states, outer, strict=True):
                state.token_slot = token_slot
