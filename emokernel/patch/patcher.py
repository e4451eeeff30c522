"""Putting the patched forwards in, after proving each block on the spot, and taking them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.errors import ModelStructureError
from emokernel.ops import Backend, select
from emokernel.patch.forward import DecoderForward, ReplacedMethod, SequentialForward
from emokernel.patch.norms import FusedNorm, probe_norm
from emokernel.patch.structure import (
    STREAM_DTYPES,
    SequentialBlock,
    find_decoder,
    random_rows,
    read_block,
    run_block,
)
from emokernel.state import UNTOUCHED, DeviceState

# A fused norm differs from the module's by the order of one sum; a wrong one by far more.
_PROOF_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class PatchedLayer:
    """What was done to one layer.

    ``not_fused`` says why the norm after its attention branch runs on its own, if it does;
    ``hands_over`` whether it also runs the input norm of the next layer.
    """

    layer: int
    block: str
    not_fused: str | None
    hands_over: bool


class Patch:
    """A patched model: its states and the record of every method that was replaced."""

    def __init__(
        self,
        model: nn.Module,
        vectors: Tensor,
        layers: Sequence[int],
        *,
        site: str,
        slots: int,
        fuse_norm: bool,
        backend: str | None,
        rows: Callable[[dict[str, Any], DeviceState], Tensor],
    ) -> None:
        """vectors ``[L, E, d]`` fp32; ``layers`` are the ones to steer (DESIGN of `patch`)."""
        decoder = find_decoder(model)
        self.model, self.decoder = model, decoder
        self._check(vectors)
        self.states: list[DeviceState] = []
        self.layers: list[PatchedLayer] = []
        self._replaced: list[ReplacedMethod] = []
        steered = torch.zeros_like(vectors)
        steered[list(layers)] = vectors[list(layers)]
        self.backend = select(self._stream(layers[0]).device, backend)
        forwards: dict[int, SequentialForward] = {}
        unfused: dict[int, str | None] = {}
        for layer in layers:
            state = self._state_on(self._stream(layer), steered, slots, backend)
            forwards[layer], unfused[layer] = self._prepare(layer, state, site, fuse_norm)
        if fuse_norm:
            self._link(forwards)
        for layer, forward in forwards.items():
            name = type(forward.module).__name__
            self.layers.append(PatchedLayer(layer, name, unfused[layer], forward.hands_over))
        for forward in [*forwards.values(), DecoderForward(decoder.owner, self.states, rows)]:
            self._replaced.append(forward)
            forward.install()

    def _stream(self, layer: int) -> Tensor:
        return self.decoder.calls[layer][0]

    def _check(self, vectors: Tensor) -> None:
        blocks, hidden_size = len(self.decoder.blocks), self.decoder.hidden_size
        if vectors.shape[0] != blocks or vectors.shape[2] != hidden_size:
            raise ModelStructureError(
                f"these vectors belong to another model: they have {vectors.shape[0]} layers of"
                f" width {vectors.shape[2]}, {type(self.model).__name__} has {blocks} of width"
                f" {hidden_size}; extract vectors from this model"
            )
        for module in (self.decoder.owner, *self.decoder.blocks):
            own = vars(module).get("forward")
            if isinstance(own, ReplacedMethod):
                raise ModelStructureError(
                    "this model is patched already: call unpatch() on its Steering first"
                )
            # A deep copy of a patched model holds its class's own method as an attribute.
            if own is not None and getattr(own, "__func__", None) is not type(module).forward:
                raise ModelStructureError(
                    f"something else replaced the forward of {type(module).__name__}"
                    " (accelerate?): remove it first"
                )
        for index in range(blocks):
            if self._stream(index).dtype not in STREAM_DTYPES:
                raise ModelStructureError(
                    f"the residual stream is {self._stream(index).dtype}; the kernels know fp32,"
                    " bf16 and fp16: cast the model first"
                )

    def _state_on(
        self, hidden: Tensor, vectors: Tensor, slots: int, backend: str | None
    ) -> DeviceState:
        for state in self.states:
            if state.device == hidden.device:
                return state
        select(hidden.device, backend)
        state = DeviceState(vectors, slots, hidden.device, hidden.dtype)
        self.states.append(state)
        return state

    def _prepare(
        self, layer: int, state: DeviceState, site: str, fuse_norm: bool
    ) -> tuple[SequentialForward, str | None]:
        block = self.decoder.blocks[layer]
        hidden, kwargs = self.decoder.calls[layer]
        structure = read_block(block, hidden, kwargs)
        norm, reason = self._fusible(block, structure, hidden.dtype, fuse_norm)
        backend: Backend = select(state.device, self.backend.name)
        forward = SequentialForward(block, structure, site, state, layer, backend, norm)
        self._prove(forward, state, hidden, kwargs)
        return forward, reason

    def _link(self, forwards: dict[int, SequentialForward]) -> None:
        """Let each block run the input norm of the next one, where both are patched."""
        for layer, forward in forwards.items():
            after = forwards.get(layer + 1)
            if after is None or after.state is not forward.state:
                continue
            norm = probe_norm(after.input_norm, forward.state.dtype)
            if isinstance(norm, FusedNorm):
                forward.hand_over_to(after, norm)

    @staticmethod
    def _fusible(
        block: nn.Module, structure: SequentialBlock, dtype: torch.dtype, fuse_norm: bool
    ) -> tuple[FusedNorm | None, str | None]:
        if not fuse_norm:
            return None, "fuse_norm=False"
        norm = probe_norm(getattr(block, structure.post_attention_norm), dtype)
        if isinstance(norm, str):
            return None, f"{structure.post_attention_norm}: {norm}"
        return norm, None

    @staticmethod
    def _prove(
        forward: SequentialForward, state: DeviceState, like: Tensor, kwargs: dict[str, Any]
    ) -> None:
        """Compare the block before and after on random rows with nothing set."""
        block, hidden = forward.module, random_rows(like, seed=1)
        before = run_block(block, hidden.clone(), kwargs)
        running = state.running
        running.untouched = state.constant_rows(hidden.numel() // hidden.shape[-1], UNTOUCHED)
        running.token_slot = running.untouched
        forward.install()
        try:
            after = run_block(block, hidden.clone(), kwargs)
        finally:
            forward.restore()
            running.token_slot = running.untouched = running.handed = None
        if type(before) is type(after):
            pair = [value[0] if isinstance(value, tuple) else value for value in (before, after)]
            error = (pair[0].float() - pair[1].float()).norm() / pair[0].float().norm()
            if pair[0].dtype == pair[1].dtype and error <= _PROOF_TOLERANCE[hidden.dtype]:
                return
        raise ModelStructureError(
            f"{type(block).__name__} gives other results when patched; this model cannot be"
            " patched yet"
        )

    def replace(self, method: ReplacedMethod) -> None:
        """Install one more replaced method, to be restored with the others."""
        self._replaced.append(method)
        method.install()

    def remove(self) -> None:
        """Restore every method; nothing happens the second time."""
        while self._replaced:
            self._replaced.pop().restore()
