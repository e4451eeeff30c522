"""hidden-directions: a vector baked into the weights, README "Make", "What's in here" (`bake`).

The package adds nothing while a model runs: it replaces a block's down projection by one with a
bias, `patch_down_proj_bias`, which is what `load_advocate` does with a baked file (and wants a GPU
for). The bias is what the MLP branch adds, so it lands at the end of block l, 0-based, before the
addition is rounded. A baked file has one layer; here the same function is called for each of ours.
The projection is copied with its bias: memory for one more per layer.
"""

from __future__ import annotations

from base import Mix, TransformersDriver, sharing_weights
from hidden_directions import patch_down_proj_bias


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "hidden-directions")

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows)
        self.steered = sharing_weights(self.model)
        if mix:
            bias = self.mixed(mix)
            for layer in self.layers:
                patch_down_proj_bias(self.steered, layer, bias[layer])
