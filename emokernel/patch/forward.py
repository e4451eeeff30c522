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

    Both residual adds run as one operation with the norm that follows them, one of the two steered:
    the one after the attention branch (site "attention") or the one at the end of the block (site
    "block"). The norm behind the end of the block belongs to the next block, which takes the normed
    rows over if it is given the very tensor that they were made from.
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
        self.state, self._tables, self._backend = state, state.layer(layer), backend
        self._norm = norm
        self._next: tuple[nn.Module, FusedNorm] | None = None
        self.input_norm = getattr(block, structure.input_norm)
        self._attention = getattr(block, structure.attention)
        self._post_attention_norm = getattr(block, structure.post_attention_norm)
        self._mlp = getattr(block, structure.mlp)
        self._names = list(inspect.signature(self.original).parameters)[1:]
        accepted = inspect.signature(self._attention.forward).parameters.values()
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted)
        # What the block keeps to itself; everything else travels on, as far as it is taken.
        self._kept = frozenset(self._names) - structure.attention_arguments
        self._passed = None if takes_any else structure.attention_arguments

    def hand_over_to(self, block: nn.Module, input_norm: FusedNorm) -> None:
        """Run the input norm of the next block as part of this block's last operation."""
        self._next = block, input_norm

    @property
    def hands_over(self) -> bool:
        """Whether the next block's input norm runs in this block."""
        return self._next is not None

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.module.training:
            self._check_training()
        if hidden_states.dtype is not self.state.dtype:
            raise SteeringError(
                f"the residual stream is {hidden_states.dtype}, but was {self.state.dtype} when"
                " the model was patched: unpatch() and patch again"
            )
        token_slot = self.state.token_slot
        rows = hidden_states.numel() // hidden_states.shape[-1]
        if token_slot is None or token_slot.numel() < rows:
            raise SteeringError(
                "a patched block was called outside of its model's forward: call the model, or"
                " unpatch() first"
            )
        untouched = self.state.constant_rows(rows, UNTOUCHED)
        at_attention, at_end = (
            (token_slot, untouched) if self._at_attention else (untouched, token_slot)
        )
        residual = hidden_states if hidden_states.is_contiguous() else hidden_states.contiguous()
        normed = self.state.take_over(hidden_states)
        if normed is None:
            normed = self.input_norm(residual)
        branch = self._run_attention(normed, args, kwargs)
        stream, normed = self._add_and_norm(branch, residual, at_attention, self._norm)
        if normed is None:
            normed = self._post_attention_norm(stream)
        stream, normed = self._add_and_norm(self._mlp(normed), stream, at_end, self._next_norm())
        if normed is not None:
            self.state.hand_over(stream, normed)
        return (stream,) if self._structure.returns_tuple else stream

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

    def _next_norm(self) -> FusedNorm | None:
        """The next block's input norm, unless somebody may look at or change what it is given."""
        if self._next is None or self.module._forward_hooks:
            return None
        block, norm = self._next
        return None if block._forward_pre_hooks or torch.is_grad_enabled() else norm

    def _add_and_norm(
        self, branch: Tensor, residual: Tensor, token_slot: Tensor, norm: FusedNorm | None
    ) -> tuple[Tensor, Tensor | None]:
        """(law(residual + branch), its norm, or None if that is left to the module)."""
        basis, *slots = self._tables
        # Under autocast the branch may come in another dtype: the sum promotes, as it would.
        if branch.dtype is not residual.dtype:
            stream = residual + branch
            return self._choose(stream).steer(stream, basis, token_slot, *slots), None
        if norm is None or norm.hooked:
            ops = self._choose(branch, residual)
            return ops.add_steer(branch, residual, basis, token_slot, *slots), None
        weight = norm.weight
        ops = self._choose(branch, residual, weight)
        normed, stream = ops.add_steer_rms_norm(
            branch, residual, weight, norm.eps, norm.cast, basis, token_slot, *slots
        )
        return stream, normed

    def _choose(self, *tensors: Tensor) -> Backend:
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return DIFFERENTIABLE
        return self._backend


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
                state.hand_over(None, None)
