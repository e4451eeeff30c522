"""Recording: one row per text and layer, taken while the model reads a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emokernel.errors import EmokernelError, ModelStructureError
from emokernel.lab.measure.encoding import TokenizedText, input_device, padded
from emokernel.patch.decoder import (
    Decoder,
    evaluating,
    find_decoder,
    stream_of,
    uncompiled,
)
from emokernel.patch.observe import Addition, observe, own_part
from emokernel.patch.source import RewrittenForward, rewrite
from emokernel.replaced import has_replaced


class _Enough(Exception):
    """All chosen layers have been recorded: what the model would compute above, nobody reads."""


class Recorder:
    """Reads batches of samples; within it, the chosen layers of the model are watched.

    The model runs up to the highest of them.

    A row is the mean of a layer's activations over the text's own tokens, or with ``last`` that of
    its last own token, in fp32. The activations are at site "block" the residual stream after the
    block, at site "attention" the branch that is added to it. Beside each row goes the mean length
    of the residual stream's rows at that site (after the add), over the same tokens.

    Raises EmokernelError for a patched model, ModelStructureError for one that cannot be read.
    """

    def __init__(
        self, model: nn.Module, site: str, *, layers: Sequence[int] | None = None, last: bool
    ) -> None:
        self.decoder = find_decoder(model)
        if has_replaced(self.decoder.owner):
            raise EmokernelError(
                "extract from the model itself: call unpatch() on its Steering first"
            )
        self._model, self._last = model, last
        self.layers = list(range(len(self.decoder.blocks)) if layers is None else layers)
        self._adds: dict[int, tuple[nn.Module, Addition]] | None = None
        if site == "attention":
            self._adds = _attention_adds(model, self.decoder, self.layers)
        self._batch: _Batch | None = None
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> Recorder:
        with ExitStack() as undo:
            undo.enter_context(evaluating(self._model))
            for layer in self.layers:
                block = self.decoder.blocks[layer]
                if self._adds is not None:
                    undo.callback(self._watch_branch(layer, *self._adds[layer]))
                else:
                    undo.callback(block.register_forward_hook(self._hook(layer)).remove)
            above = self.decoder.blocks[max(self.layers) + 1 :]
            if above:
                undo.callback(above[0].register_forward_pre_hook(self._stop).remove)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def read(self, samples: Sequence[TokenizedText]) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``[layers, batch, d]`` and mean lengths ``[layers, batch]`` of a batch, fp32.

        Every sample needs a token of its own. EmokernelError naming the layer that is not finite.
        """
        self._batch = _Batch(samples, self._last)
        device = input_device(self._model)
        ids, mask = (each.to(device) for each in (self._batch.ids, self._batch.mask))
        try:
            with torch.no_grad(), uncompiled(), suppress(_Enough):
                # Without the head: nobody reads the logits.
                self.decoder.owner(input_ids=ids, attention_mask=mask, use_cache=False)
            # Copied only now, so that no layer waits for the device.
            read = [[each.cpu().numpy() for each in self._rows[layer]] for layer in self.layers]
        finally:
            self._batch = None
            self._rows.clear()
        rows, lengths = (np.stack(each) for each in zip(*read, strict=True))
        for layer, *values in zip(self.layers, rows, lengths, strict=True):
            if not all(np.isfinite(each).all() for each in values):
                raise EmokernelError(
                    f"the activations of layer {layer} hold inf or nan: load the model in a wider"
                    " dtype, such as bfloat16 or float32"
                )
        return rows, lengths

    def _record(self, layer: int, activations: Tensor, stream: Tensor) -> None:
        batch = self._batch
        if batch is not None:  # else the model is read by somebody else
            self._rows[layer] = batch.row(activations), batch.length(stream)

    def _stop(self, *_: object) -> None:
        if self._batch is not None:
            raise _Enough

    def _hook(self, layer: int) -> Callable:
        def hook(block: nn.Module, _: Any, output: Any) -> None:
            stream = stream_of(block, output)
            self._record(layer, stream, stream)

        return hook

    def _watch_branch(self, layer: int, module: nn.Module, added: Addition) -> Callable[[], None]:
        """Watch the branch that ``module`` adds, a block or its part; returns what ends it."""

        def add(a: Tensor, b: Tensor) -> Tensor:
            stream = a + b
            self._record(layer, (a, b)[added.branch], stream)
            return stream

        watched = RewrittenForward(module, rewrite(type(module).forward, {added.key: add}.get))
        watched.install()
        return watched.restore


class _Batch:
    """Samples padded on the right, and how a row is taken from their activations."""

    def __init__(self, samples: Sequence[TokenizedText], last: bool) -> None:
        encoded = padded(samples)
        self.ids, self.mask = encoded.ids, encoded.mask
        own = encoded.counted
        if last:
            place = (own * torch.arange(1, 1 + own.shape[1])).argmax(1)
            own = nn.functional.one_hot(place, own.shape[1])
        self._shares = (own / own.sum(1, keepdim=True))[:, None]
        self._placed: dict[torch.device, Tensor] = {}

    def row(self, activations: Tensor) -> Tensor:
        """``[batch, d]`` fp32 of ``activations [batch, tokens, d]``, perhaps flattened."""
        device = activations.device
        if device not in self._placed:
            self._placed[device] = self._shares.to(device)
        activations = activations.reshape(*self.mask.shape, -1).float()
        return torch.bmm(self._placed[device], activations).squeeze(1)

    def length(self, stream: Tensor) -> Tensor:
        """Mean length ``[batch]`` of the rows of ``stream``."""
        lengths = torch.linalg.vector_norm(stream, dim=-1, keepdim=True, dtype=torch.float32)
        return self.row(lengths).flatten()


def _attention_adds(
    model: nn.Module, decoder: Decoder, layers: Sequence[int]
) -> dict[int, tuple[nn.Module, Addition]]:
    """For each layer the module that adds its attention branch, and where it does."""
    traced = observe(model, decoder)
    adds: dict[int, tuple[nn.Module, Addition]] = {}
    for layer in layers:
        block = decoder.blocks[layer]
        attention, _ = traced.adds_of(layer, block)
        if attention is None or attention.branch is None:
            raise ModelStructureError(
                f"{type(block).__name__} (layer {layer}) does not add its attention"
                ' branch to the stream by itself: extract at site="block", or other layers'
            )
        adds[layer] = own_part(decoder, block, attention.part), attention
    return adds
