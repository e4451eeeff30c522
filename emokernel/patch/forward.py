"""The forwards that replace a model's own, on instances only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from emokernel.errors import SteeringError
from emokernel.ops import Backend
from emokernel.ops.reference import BACKEND as DIFFERENTIABLE
from emokernel.patch.norms import FusedNorm
from emokernel.patch.structure import Decoder, SequentialBlock
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


def is_patched(decoder: Decoder) -> bool:
    """Whether the decoder's forward is replaced by one of emokernel's."""
    return isinstance(vars(decoder.owner).get("forward"), ReplacedMethod)


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
        self._next: SequentialForward | None = None
        self._norm_of_next: FusedNorm | None = None
        # Looked up by name in every call: somebody may replace a child of the block.
        self._children = block._modules
        self._names = list(inspect.signature(self.original).parameters)[1:]
        attention = self._children[structure.attention]
        accepted = inspect.signature(attention.forward).parameters.values()
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted)
        # What the block keeps to itself; everything else travels on, as far as it is taken.
        self._kept = frozenset(self._names) - structure.attention_arguments
        self._passed = None if takes_any else structure.attention_arguments

    @property
    def input_norm(self) -> nn.Module:
        """The norm before the attention branch."""
        return self._children[self._structure.input_norm]

    def hand_over_to(self, after: SequentialForward, input_norm: FusedNorm) -> None:
        """Run the input norm of the next block as part of this block's last operation."""
        self._next, self._norm_of_next = after, input_norm

    @property
    def hands_over(self) -> bool:
        """Whether the next block's input norm runs in this block."""
        return self._next is not None

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        structure, children, running = self._structure, self._children, self.state.running
        if self.module.training:
            self._check_training()
        if hidden_states.dtype is not self.state.dtype or running.token_slot is None:
            self._refuse(hidden_states)
        at_attention, at_end = running.token_slot, running.untouched
        if not self._at_attention:
            at_attention, at_end = at_end, at_attention
        residual = hidden_states if hidden_states.is_contiguous() else hidden_states.contiguous()
        handed = running.handed
        if handed is not None and handed[0] is hidden_states and handed[2] is self:
            normed = handed[1]
        else:
            normed = children[structure.input_norm](residual)
        branch = self._run_attention(normed, args, kwargs)
        norm_module = children[structure.post_attention_norm]
        norm = self._norm
        if norm is not None and not norm.stands_for(norm_module):
            norm = None
        stream, normed = self._add_and_norm(branch, residual, at_attention, norm)
        branch = children[structure.mlp](norm_module(stream) if normed is None else normed)
        norm = None if self._next is None else self._next_norm()
        stream, normed = self._add_and_norm(branch, stream, at_end, norm)
        running.handed = None if normed is None else (stream, normed, self._next)
        return (stream,) if structure.returns_tuple else stream

    def _refuse(self, hidden_states: Tensor) -> NoReturn:
        if hidden_states.dtype is not self.state.dtype:
            raise SteeringError(
                f"the residual stream is {hidden_states.dtype}, but was {self.state.dtype} when"
                " the model was patched: unpatch() and patch again"
            )
        raise SteeringError(
            "a patched block was called outside of its model's forward: call the model, or"
            " unpatch() first"
        )

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
        attention = self._children[self._structure.attention]
        if self._structure.hidden_argument is None:
            output = attention(normed, **kwargs)
        else:
            output = attention(**{self._structure.hidden_argument: normed}, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _next_norm(self) -> FusedNorm | None:
        """The next block's input norm, unless somebody may look at or change what it is given."""
        after, norm = self._next, self._norm_of_next
        hooks = self.module._forward_hooks
        if (
            torch.is_grad_enabled()
            or (hooks and _may_change(hooks))
            or after.module._forward_pre_hooks
            or not norm.stands_for(after.input_norm)
        ):
            return None
        return norm

    def _add_and_norm(
        self, branch: Tensor, residual: Tensor, token_slot: Tensor, norm: FusedNorm | None
    ) -> tuple[Tensor, Tensor | None]:
        """(law(residual + branch), its norm, or None if that is left to the module)."""
        basis, ids, weights, law = self._tables
        ops = self._backend
        if branch.dtype is not residual.dtype:
            branch, residual = self._promoted(branch, residual), None
        weight = norm.weight if norm is not None else None
        if torch.is_grad_enabled() and any(
            tensor is not None and tensor.requires_grad for tensor in (branch, residual, weight)
        ):
            ops = DIFFERENTIABLE
        if residual is None:
            return ops.steer(branch, basis, token_slot, ids, weights, law), None
        if norm is None:
            return ops.add_steer(branch, residual, basis, token_slot, ids, weights, law), None
        normed, stream = ops.add_steer_rms_norm(
            branch, residual, weight, norm.eps, norm.cast, basis, token_slot, ids, weights, law
        )
        return stream, normed

    def _promoted(self, branch: Tensor, residual: Tensor) -> Tensor:
        """The sum of two dtypes: under autocast the branch may come in another one."""
        stream = residual + branch
        if stream.dtype is not self.state.dtype:
            raise SteeringError(
                f"autocast turns the residual stream from {self.state.dtype} into"
                f" {stream.dtype}: cast the model instead, or use the model's own dtype"
            )
        return stream


def _may_change(hooks: Mapping[int, Callable]) -> bool:
    """Whether one of ``hooks`` is not of transformers' own that only record outputs.

    Those stay on a model for good once it was asked for its hidden states.
    """
    return any(hook.__module__ != "transformers.utils.output_capturing" for hook in hooks.values())


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
        if named.get("input_ids") is None and named.get("inputs_embeds") is None:
            return self.original(*args, **kwargs)  # which says what is missing
        outer = [(s.running.token_slot, s.running.untouched) for s in self._states]
        try:
            for state in self._states:
                running = state.running
                running.token_slot = self._rows(named, state)
                running.untouched = state.constant_rows(running.token_slot.shape[0], UNTOUCHED)
            return self.original(*args, **kwargs)
        finally:
            for state, kept in zip(self._states, outer, strict=True):
                state.running.token_slot, state.running.untouched = kept
                state.running.handed = None
