"""Putting the patched forwards in, after proving each block on the spot, and taking them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emokernel.engines.base import Engine
from emokernel.errors import EmokernelError, ModelStructureError
from emokernel.ops import Backend, select
from emokernel.patch.adds import Add, NormForward, SteeredOutput
from emokernel.patch.checks import are_close, check_model, check_run, check_wrappers
from emokernel.patch.decoder import (
    evaluating,
    find_decoder,
    find_generator,
    stream_of,
    streams_of,
    uncompiled,
)
from emokernel.patch.decoder_forward import DecoderForward, Handle, NoReplica
from emokernel.patch.norms import NO_NORM, FusedNorm, probe_norm
from emokernel.patch.observe import Addition, observe, own_part
from emokernel.patch.placed import Placed
from emokernel.patch.source import Key, RewrittenForward, rewrite
from emokernel.patch.surroundings import Surroundings, Way
from emokernel.replaced import ReplacedMethod, is_replaced
from emokernel.state import UNTOUCHED, DeviceState, ModelState


@dataclass(frozen=True)
class PatchedLayer:
    """What is done to one layer.

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
        handle: Handle,
        profile: Tensor | None = None,
    ) -> None:
        """vectors ``[L, E, d]`` fp32; ``layers`` are the ones to steer.

        ``engines`` are asked for the rows of each call, in this order; ``states`` gets the state of
        each device. ``handle`` is what the model is steered with. ``profile`` ``[L]`` multiplies
        the weights of each layer.
        """
        check_wrappers(model)
        self.model, self.decoder = model, find_decoder(model)
        self._site, self._fuse_norm = site, fuse_norm
        check_model(model, self.decoder, vectors)
        self._observed = observe(model, self.decoder)
        chosen = [vectors.sum(), vectors.abs().sum(), site == "block", fuse_norm]
        chosen += [layer in layers for layer in range(len(vectors))]
        check_run(model, self.decoder, self._observed, torch.tensor(chosen))
        self._names = {module: name for name, module in model.named_modules()}
        self.states, self.placed = states, list[Placed]()
        self._replaced: list[ReplacedMethod] = []
        self._norms: dict[nn.Module, NormForward | str] = {}
        self._surroundings = Surroundings(self.decoder, layers)
        steered = torch.zeros_like(vectors)
        steered[list(layers)] = vectors[list(layers)]
        for layer in layers:
            self._place(layer, steered, slots, backend, profile)
        try:
            self._layers = [self._patch_layer(layer) for layer in layers]
            self._surroundings.look()
            for layer in layers:
                self._prove(layer)
            owner = self.decoder.owner
            around = self._surroundings, self._replaced
            self.replace(DecoderForward(owner, self.placed, engines, model, handle, *around))
            self._prove_whole()
            self.replace(NoReplica(owner, handle))
            generator = find_generator(model, self.decoder)
            if generator is not None:
                for engine in engines:
                    for method in engine.replacements(generator):
                        self.replace(method)
        except BaseException:
            self.remove()
            raise
        del self._observed

    @property
    def layers(self) -> list[PatchedLayer]:
        """What is done to each steered layer now; foreign things may keep adds from norms."""
        return [self._told(*made) for made in self._layers]

    @property
    def backend(self) -> Backend:
        """The backend that serves the first device."""
        return self.placed[0].backend

    def _told(
        self, layer: int, site: Add | None, reason: str | None, other: Add | None
    ) -> PatchedLayer:
        kind = type(self.decoder.blocks[layer]).__name__
        operation, norm = "steer" if site is None else "add_steer", None
        if site is not None and site.ahead is not None:
            forward, way = site.ahead
            reason = way.look()
            if reason is None:
                operation, norm = forward.norm.operation, self._names[forward.module]
        also = also_not = None
        if other is not None and other.ahead is not None:
            forward, way = other.ahead
            also = self._names[forward.module]
            if (obstacle := way.look()) is not None:
                also, also_not = None, f"{also}: {obstacle}"
        return PatchedLayer(layer, kind, operation, norm, reason, also, also_not)

    def _place(
        self, layer: int, vectors: Tensor, slots: int, backend: str | None, profile: Tensor | None
    ) -> None:
        stream = self._observed.blocks[layer].result.tensor
        if all(state.device != stream.device for state in self.states.devices):
            select(stream.device, backend)  # refuses before anything is made there
            state = DeviceState(
                vectors, slots, stream.device, stream.dtype, profile, lock=self.states.lock
            )
            self.states.devices.append(state)
            self.placed.append(Placed(state, backend, self.decoder.blocks[layer]))

    def _placed_of(self, layer: int) -> Placed:
        device = self._observed.blocks[layer].result.tensor.device
        return next(each for each in self.placed if each.state.device == device)

    def _patch_layer(self, layer: int) -> tuple[int, Add | None, str | None, Add | None]:
        """(The layer; its steered add; why that computes no norm; its other add, if it does)."""
        block = self.decoder.blocks[layer]
        kind = type(block).__name__
        elsewhere, at_site = self._observed.adds_of(layer, block)
        if self._site == "attention":
            at_site, elsewhere = elsewhere, at_site
        if self._site == "attention" and at_site is None:
            raise ModelStructureError(
                f"{kind} has no place behind its attention branch alone (it adds its branches to"
                ' the stream at once, has one only, or adds out of sight): use site="block"'
            )
        placed = self._placed_of(layer)
        site = other = None
        reason: str | None = f"{kind} does not return the result of an add"
        chosen: list[tuple[Addition, Add]] = []
        if at_site is not None:
            site = Add(placed, layer, steered=True)
            reason = self._fuse(site, at_site)
            chosen.append((at_site, site))
        if elsewhere is not None:
            other = Add(placed, layer, steered=False)
            if self._fuse(other, elsewhere) is None:
                chosen.append((elsewhere, other))
        self._rewrite(layer, block, chosen)
        if site is None:
            self.replace(SteeredOutput(block, placed, layer), steers=layer)
        return layer, site, reason, other

    def _fuse(self, add: Add, addition: Addition) -> str | None:
        """Let the norm that reads the rows of an add run with it; why not, if there is none."""
        if not self._fuse_norm:
            return "fuse_norm=False"
        reasons = []
        for read in self._observed.readers(addition):
            if any(True for _ in read.module.children()):
                continue
            norm, name = self._norm_of(read.module, add.placed), self._names[read.module]
            if isinstance(norm, NormForward):
                steps = self._observed.steps[addition.at : read.at]
                around = {step.module for step in steps} & self.decoder.wrappers
                if not around:
                    way = Way(steps, self.model, self._names)
                    self._surroundings.ways.append(way)
                    add.compute_ahead(norm, way)
                    return None
                # Its forward is not the model's, and may write to the rows one day.
                reasons.append(f"{name}: a {type(around.pop()).__name__} stands before it")
            elif norm != NO_NORM:
                reasons.append(f"{name}: {norm}")
        return reasons[0] if reasons else "no norm reads the row directly"

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

    def _rewrite(self, layer: int, block: nn.Module, chosen: list[tuple[Addition, Add]]) -> None:
        by_part: dict[str, dict[Key, Add]] = {}
        for addition, add in chosen:
            by_part.setdefault(addition.part, {})[addition.key] = add
        for part, by_key in by_part.items():
            module = own_part(self.decoder, block, part)
            calls = {key: add.__call__ for key, add in by_key.items()}  # sooner than the object
            rewritten = rewrite(type(module).forward, calls.get)
            assert rewritten is not None  # where the adds were seen
            steers = any(add.steered for add in by_key.values())
            self.replace(RewrittenForward(module, rewritten), steers=layer if steers else None)

    def _prove(self, layer: int) -> None:
        """Compare a block before and after, on what was observed of it, with nothing set."""
        block, run = self.decoder.blocks[layer], self._observed.blocks[layer]
        state = self._placed_of(layer).state
        running, kind = state.running, type(block).__name__
        running.untouched = state.constant_rows(run.rows.shape[1], UNTOUCHED)
        running.token_slot = running.untouched
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
            raise ModelStructureError(
                f"{kind} {layer} does not run when patched ({error}): patch with another backend="
                f"{', or with fuse_norm=False' if self._fuse_norm else ''}"
            ) from error
        finally:
            running.token_slot = running.untouched = running.handed = None
        if not are_close(stream_of(block, after), run.rows):
            raise ModelStructureError(
                f"{kind} {layer} gives other results when patched; {self._way_out()}"
            )

    def _way_out(self) -> str:
        if not self._fuse_norm:
            return "it cannot be patched yet"
        return "use fuse_norm=False (quantised activations may turn one rounding into many)"

    def _prove_whole(self) -> None:
        """Compare the whole model: what blocks hand to each other, and every norm made ahead."""
        observed = self._observed
        wanted = [(i, self.decoder.blocks[i], run.rows) for i, run in observed.blocks.items()]
        for layer, site, _, other in self._layers:
            for add in (site, other):
                if add is not None and add.ahead is not None:
                    norm = add.ahead[0].module
                    wanted.append((layer, norm, observed.results[norm]))
        wanted.sort(key=lambda each: each[0])  # what each layer returns, and then what it hands on
        streams = streams_of(self.model, dict.fromkeys(module for _, module, _ in wanted))
        for layer, module, rows in wanted:
            if not are_close(streams[module], rows, allowance=4.0):
                block = self.decoder.blocks[layer]
                norm = f" to {self._names[module]}" if module is not block else ""
                raise ModelStructureError(
                    f"{type(block).__name__} {layer} gives other results{norm} in the patched"
                    f" model; {self._way_out()}"
                )

    def replace(self, method: ReplacedMethod, steers: int | None = None) -> None:
        """Install one more replaced method, to be restored with the others."""
        if steers is not None:
            self._surroundings.methods[steers].append(method)
        self._replaced.append(method)
        method.install()

    def remove(self) -> None:
        """Restore every method; nothing happens the second time."""
        while self._replaced:
            self._replaced.pop().restore()
