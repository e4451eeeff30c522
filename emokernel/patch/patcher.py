"""Putting the patched forwards in, after proving each block on the spot, and taking them out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from emokernel.engines.base import Engine
from emokernel.errors import EmokernelError, ModelStructureError
from emokernel.ops import Backend, select
from emokernel.patch.adds import Add, NormForward
from emokernel.patch.between import Between
from emokernel.patch.block_forwards import RewrittenForward, SteeredOutput
from emokernel.patch.decoder import (
    PROBE_TOKENS,
    evaluating,
    find_decoder,
    find_generator,
    run_on_a_few_tokens,
    stream_of,
    uncompiled,
)
from emokernel.patch.decoder_forward import DecoderForward, Handle
from emokernel.patch.norms import NO_NORM, FusedNorm, probe_norm
from emokernel.patch.observe import Addition, observe
from emokernel.patch.parallel import (
    NoReplica,
    check_alike,
    check_norms,
    check_rows,
    check_wrappers,
)
from emokernel.patch.placed import STREAM_DTYPES, Placed
from emokernel.patch.source import Key, rewrite
from emokernel.patch.standing import Standing
from emokernel.patch.structure import own_part, read_block
from emokernel.replaced import ReplacedMethod, has_replaced, is_replaced
from emokernel.state import UNTOUCHED, DeviceState, ModelState

# A fused norm differs from the module's by the order of one sum; a wrong one by far more.
_PROOF_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class PatchedLayer:
    """What was done to one layer.

    ``operation`` is the one that steers it, ``norm`` the norm that it computes too (a dotted name
    in the model); ``not_fused`` says why there is none. ``also_fused`` is the norm that the layer's
    other residual add computes; ``also_not`` why it does not now, although it could.
    """

    layer: int
    block: str
    operation: str
    norm: str | None
    not_fused: str | None
    also_fused: str | None
    also_not: str | None = None

    def as_it_runs(self, site: Add | None, other: Add | None) -> PatchedLayer:
        """The same, less the norms that something foreign keeps the two adds from computing."""
        made = self
        if site is not None and (obstacle := site.obstacle()) is not None:
            made = replace(made, operation="add_steer", norm=None, not_fused=obstacle)
        if other is not None and (obstacle := other.obstacle()) is not None:
            made = replace(made, also_fused=None, also_not=f"{made.also_fused}: {obstacle}")
        return made


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
        engines: Sequence[Engine],
        states: ModelState,
        profile: Tensor | None = None,
    ) -> None:
        """vectors ``[L, E, d]`` fp32; ``layers`` are the ones to steer.

        ``engines`` are asked for the rows of each call, in this order; ``states`` gets the state of
        each device. ``profile`` ``[L]`` multiplies the weights of each layer.
        """
        check_wrappers(model)
        self.model, self.decoder = model, find_decoder(model)
        self._site, self._fuse_norm = site, fuse_norm
        check_norms(model, self.decoder.hidden_size)
        self._check_vectors(vectors)
        self._check_untouched()
        self._observed = observe(model, self.decoder)
        self._check_streams()
        chosen = [vectors.sum(), vectors.abs().sum(), site == "block", fuse_norm]
        chosen += [layer in layers for layer in range(len(vectors))]
        check_alike(model, self._observed, torch.tensor(chosen))
        self._check_causal()
        self._names = {module: name for name, module in model.named_modules()}
        self.handle: Handle | None = None  # given by who makes one
        self.states, self.placed = states, list[Placed]()
        self._replaced: list[ReplacedMethod] = []
        self._norms: dict[nn.Module, NormForward | str] = {}
        self._standing = Standing(self.decoder, layers)
        steered = torch.zeros_like(vectors)
        steered[list(layers)] = vectors[list(layers)]
        for layer in layers:
            self._place(layer, steered, slots, backend, profile)
        try:
            self._layers = [self._patch_layer(layer) for layer in layers]
            for layer in layers:
                self._prove(layer)
            owner = self.decoder.owner
            standing = self._standing
            self.replace(DecoderForward(owner, self.placed, engines, model, self, standing))
            self._prove_whole()
            self.replace(NoReplica(owner, self))
            generator = find_generator(model, self.decoder)
            for engine in engines if generator is not None else ():
                for method in engine.replacements(generator):
                    self.replace(method)
        except BaseException:
            self.remove()
            raise
        del self._observed

    def _stream(self, layer: int) -> Tensor:
        return self._observed.blocks[layer].result.tensor

    def _check_vectors(self, vectors: Tensor) -> None:
        blocks, hidden_size = len(self.decoder.blocks), self.decoder.hidden_size
        if vectors.shape[0] != blocks or vectors.shape[2] != hidden_size:
            advice = "extract vectors from this model"
            if vectors.shape[2] == hidden_size and vectors.shape[0] == blocks + 1:
                advice = (
                    "if row 0 is that of the embeddings, as in persona vectors, leave it out:"
                    " dataclasses.replace(vectors, tensor=vectors.tensor[1:])"
                )
            elif vectors.shape[2] == hidden_size and vectors.shape[0] < blocks:
                advice = (
                    "if their file holds some of this model's layers, say how many it has:"
                    f" EmotionVectors.load(path, num_layers={blocks}), or emokernel convert with"
                    f" --num-layers {blocks}; else {advice}"
                )
            raise ModelStructureError(
                f"these vectors belong to another model: they have {vectors.shape[0]} layers of"
                f" width {vectors.shape[2]}, {type(self.model).__name__} has {blocks} of width"
                f" {hidden_size}; {advice}"
            )

    def _check_untouched(self) -> None:
        for module in self.model.modules():
            if has_replaced(module):
                raise ModelStructureError(
                    "this model is patched already: call unpatch() on its Steering first"
                )
        for module in (self.decoder.owner, *self.decoder.blocks):
            if is_replaced(module):
                raise ModelStructureError(
                    f"something else replaced the forward of {type(module).__name__}: remove it"
                    " first"
                )

    def _check_streams(self) -> None:
        for index, run in self._observed.blocks.items():
            kind, stream = type(self.decoder.blocks[index]).__name__, run.result.tensor
            if stream.dtype not in STREAM_DTYPES:
                raise ModelStructureError(
                    f"the residual stream is {stream.dtype}; the kernels know fp32, bf16 and fp16:"
                    " cast the model first"
                )
            if stream.dim() != 3 or stream.shape[0] != 1:
                raise ModelStructureError(
                    f"{kind} carries {list(stream.shape)} for one sequence, more than one residual"
                    " stream; such a model cannot be patched"
                )
            check_rows(self.model, stream)

    def _check_causal(self) -> None:
        """Where nothing generates, another last token must leave the rows before it as they are.

        A few models that generate read their prompts in both directions.
        """
        if find_generator(self.model, self.decoder) is not None:
            return
        last = len(self.decoder.blocks) - 1
        kept: list[Tensor] = []
        handle = self.decoder.blocks[last].register_forward_hook(
            lambda _, __, output: kept.append(stream_of(output).clone())
        )
        try:
            with torch.inference_mode(False):
                run_on_a_few_tokens(self.model, last=PROBE_TOKENS)
        finally:
            handle.remove()
        if not _close(kept[0][:, :-1], self._observed.blocks[last].rows[:, :-1], allowance=4.0):
            raise ModelStructureError(
                f"{type(self.model).__name__} is not causal (what it computes for a token depends"
                " on those that follow): pass a causal language model"
            )

    @property
    def layers(self) -> list[PatchedLayer]:
        """What is done to each steered layer now."""
        return [made.as_it_runs(*adds) for made, *adds in self._layers]

    @property
    def backend(self) -> Backend:
        """The backend that serves the first device."""
        return self.placed[0].backend

    def _place(
        self, layer: int, vectors: Tensor, slots: int, backend: str | None, profile: Tensor | None
    ) -> None:
        stream = self._stream(layer)
        if all(state.device != stream.device for state in self.states.devices):
            select(stream.device, backend)  # refuses before anything is made there
            state = DeviceState(
                vectors, slots, stream.device, stream.dtype, profile, lock=self.states.lock
            )
            self.states.devices.append(state)
            self.placed.append(Placed(state, backend, self.decoder.blocks[layer]))

    def _placed_of(self, layer: int) -> Placed:
        device = self._stream(layer).device
        return next(placed for placed in self.placed if placed.state.device == device)

    def _patch_layer(self, layer: int) -> tuple[PatchedLayer, Add | None, Add | None]:
        """(What is done to a layer; its steered add; its other add, if that computes a norm)."""
        block = self.decoder.blocks[layer]
        kind = type(block).__name__
        adds = read_block(self._observed, layer, block)
        if self._site == "attention" and adds.attention is None:
            raise ModelStructureError(
                f"{kind} has no place behind its attention branch alone (it adds its branches to"
                ' the stream at once, has one only, or adds out of sight): use site="block"'
            )
        site = adds.attention if self._site == "attention" else adds.end
        other = adds.end if self._site == "attention" else adds.attention
        placed = self._placed_of(layer)
        chosen: dict[Addition, Add] = {}
        norm_name = also_fused = None
        if site is not None:
            chosen[site] = Add(placed, layer, steered=True)
            norm_name, reason = self._fuse(layer, chosen[site], site)
            operation = chosen[site].norm.norm.operation if norm_name else "add_steer"
        else:
            operation, reason = "steer", f"{kind} does not return the result of an add"
        if other is not None:
            add = Add(placed, layer, steered=False)
            also_fused, _ = self._fuse(layer, add, other)
            if also_fused is not None:
                chosen[other] = add
        self._rewrite(layer, block, chosen)
        if site is None:
            self._steer_by(layer, SteeredOutput(block, placed, layer))
        made = PatchedLayer(layer, kind, operation, norm_name, reason, also_fused)
        return made, chosen.get(site), chosen.get(other)

    def _fuse(self, layer: int, add: Add, addition: Addition) -> tuple[str | None, str | None]:
        """Let the norm that reads the rows of an add run with it: (its name, or why not)."""
        if not self._fuse_norm:
            return None, "fuse_norm=False"
        reasons = []
        for read in self._observed.readers(addition.result):
            if any(True for _ in read.module.children()):
                continue
            norm = self._norm_of(read.module, add.placed)
            if isinstance(norm, NormForward):
                steps = self._observed.steps_between(addition, read)
                around = {step.module for step in steps} & self.decoder.wrappers
                if around:  # its forward is not the model's, and may write to the rows one day
                    kind = type(around.pop()).__name__
                    reasons.append(f"{self._names[read.module]}: a {kind} stands before it")
                    continue
                add.compute_ahead(norm, Between(steps, self.model, self._names))
                return self._names[read.module], None
            if norm != NO_NORM:
                reasons.append(f"{self._names[read.module]}: {norm}")
        return None, reasons[0] if reasons else "no norm reads the row directly"

    def _norm_of(self, module: nn.Module, placed: Placed) -> NormForward | str:
        if module not in self._norms and is_replaced(module):  # it may do more one day
            self._norms[module] = "something else replaced its forward"
        if module not in self._norms:
            probed = probe_norm(module, self.decoder.hidden_size, placed.state.dtype)
            if isinstance(probed, FusedNorm):
                probed = NormForward(probed, placed)
                self.replace(probed)
            self._norms[module] = probed
        norm = self._norms[module]
        if isinstance(norm, NormForward) and norm.placed is not placed:
            return "it is on another device"
        return norm

    def _steer_by(self, layer: int, method: ReplacedMethod) -> None:
        self._standing.note(layer, method)
        self.replace(method)

    def _rewrite(self, layer: int, block: nn.Module, chosen: Mapping[Addition, Add]) -> None:
        by_child: dict[str, dict[Key, Add]] = {}
        for addition, add in chosen.items():
            child, key = addition.place
            by_child.setdefault(child, {})[key] = add
        for child, by_key in by_child.items():
            module = own_part(self.decoder, block, child)
            forward = type(module).forward
            # torch.compile itself fuses the other adds with their norms, and with more than that.
            steered = {key: add for key, add in by_key.items() if add.steered}
            traced = rewrite(forward, steered.get) or inspect.unwrap(forward)
            method = RewrittenForward(module, rewrite(forward, by_key.get), traced)
            self._steer_by(layer, method) if steered else self.replace(method)

    def _prove(self, layer: int) -> None:
        """Compare the block before and after, on what was observed of it, with nothing set."""
        block, run = self.decoder.blocks[layer], self._observed.blocks[layer]
        state = self._placed_of(layer).state
        running, tokens = state.running, run.result.tensor.shape[1]
        running.untouched = running.token_slot = state.constant_rows(tokens, UNTOUCHED)
        try:
            with (
                torch.inference_mode(False),  # which switches gradients on
                torch.no_grad(),
                evaluating(block),
                uncompiled(),
            ):
                after = block(*run.args, **run.kwargs)
        except EmokernelError:
            raise
        except Exception as error:
            if run.kwargs.get("past_key_values") is not None:
                raise ModelStructureError(
                    f"{type(self.model).__name__} gives its blocks a cache for every text (prefix"
                    " tuning): patch the model within it"
                ) from error
            raise ModelStructureError(
                f"{type(block).__name__} does not run when patched ({error})"
            ) from error
        finally:
            running.token_slot = running.untouched = running.handed = None
        if type(after) is not type(run.output) or not _close(stream_of(after), run.rows):
            raise ModelStructureError(
                f"{type(block).__name__} gives other results when patched; {self._way_out()}"
            )

    def _way_out(self) -> str:
        if not self._fuse_norm:
            return "it cannot be patched yet"
        return "use fuse_norm=False (quantised activations may turn one rounding into many)"

    def _prove_whole(self) -> None:
        """Compare the whole model before and after: what blocks hand to each other as well."""
        streams: dict[int, Tensor] = {}
        handles = [
            block.register_forward_hook(
                lambda _, __, output, i=index: streams.__setitem__(i, stream_of(output).clone())
            )
            for index, block in enumerate(self.decoder.blocks)
        ]
        try:
            with torch.inference_mode(False):
                run_on_a_few_tokens(self.model)
        finally:
            for handle in handles:
                handle.remove()
        for index, run in self._observed.blocks.items():
            if not _close(streams[index], run.rows, allowance=4.0):
                kind = type(self.decoder.blocks[index]).__name__
                raise ModelStructureError(
                    f"{kind} {index} gives other results in the patched model; {self._way_out()}"
                )

    def replace(self, method: ReplacedMethod) -> None:
        """Install one more replaced method, to be restored with the others."""
        self._replaced.append(method)
        method.install()

    def remove(self) -> None:
        """Restore every method; nothing happens the second time."""
        while self._replaced:
            self._replaced.pop().restore()


def _close(after: Tensor | None, before: Tensor, allowance: float = 1.0) -> bool:
    if after is None or after.shape != before.shape or after.dtype != before.dtype:
        return False
    error = (after.float() - before.float()).norm()
    return bool(error <= allowance * _PROOF_TOLERANCE[before.dtype] * before.float().norm())
