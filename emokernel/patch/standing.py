"""Whether the blocks that were patched still stand in the model: other tools may replace them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from torch import nn

from emokernel.errors import SteeringError
from emokernel.patch.decoder import Decoder
from emokernel.replaced import ReplacedMethod


class Standing:
    """The steered blocks of a decoder; asked in every call, which costs comparisons."""

    def __init__(self, decoder: Decoder, layers: Iterable[int]) -> None:
        self._owner = decoder.owner
        self._blocks = {layer: decoder.blocks[layer] for layer in layers}
        # What has to stay for nothing to have changed: (children of a module, those it had).
        self._seen: list[tuple[Mapping[str, nn.Module | None], list[nn.Module | None]]] = []
        # What steers each layer, as far as it is in the place of a method.
        self._methods: dict[int, list[ReplacedMethod]] = {}
        self._warned = False

    def note(self, layer: int, method: ReplacedMethod) -> None:
        """``method`` steers the layer, or computes what its steered add needs."""
        self._methods.setdefault(layer, []).append(method)

    def check(self) -> None:
        """SteeringError for a block that is gone: its layer would not be steered."""
        seen = self._seen
        if not seen or any([list(now.values()) != then for now, then in seen]):
            self._look()

    def _look(self) -> None:
        parts = list(self._owner.modules())
        there = set(parts)
        gone = [layer for layer, block in self._blocks.items() if block not in there]
        if gone:
            kind = type(self._blocks[gone[0]]).__name__
            raise SteeringError(
                f"block {gone[0]} ({kind}) is no longer a part of {type(self._owner).__name__}:"
                " something took it out or replaced it after the model was patched, and its layer"
                " would not be steered: unpatch() and patch again"
            )
        blocks = set(self._blocks.values())
        around = [part for part in parts if part not in blocks and blocks & set(part.modules())]
        self._seen = [(part._modules, list(part._modules.values())) for part in around]

    def check_ran(self, *steered: set[int]) -> None:
        """A warning, once, for a block that was not run by the forward that steers it.

        ``steered``: the layers that were, on each device. Models may leave out their last blocks.
        """
        ran = set().union(*steered)
        if len(ran) < len(self._blocks) and not self._warned:
            last = max(ran, default=-1)
            lost = [
                layer
                for layer in self._blocks
                if layer not in ran and (layer < last or not self._in_place(layer))
            ]
            if lost:
                self._warned = True
                warnings.warn(
                    f"the layers {lost} were not steered: their blocks were left out, or something"
                    " gave them another forward after the model was patched, or runs others in"
                    " their place (if so, unpatch(), let it do so, and patch then)",
                    stacklevel=2,
                )

    def _in_place(self, layer: int) -> bool:
        methods = self._methods.get(layer, [])
        return all(method in vars(method.module).values() for method in methods)
