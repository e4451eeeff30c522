"""steerkit: README "Smallest Useful Loop" and "multi-layer steering" (`CompositeProbe.steer`).

It steers TransformerLens models, which compute with weights of their own (norms folded in). A probe
of layer l hooks `blocks.l.hook_resid_post`, the end of block l, 0-based; a composite adds weight *
alpha * direction to every position. Directions are unit vectors and alpha their length; as plain
numbers go in, alpha is 1 and the weight ours. `steer` takes one prompt: a batch is not offered.
TransformerLens 3 knows no SmolLM2 by name and 4 has dropped the class that steerkit wants, so the
model is made by the same steps as its `from_pretrained` and wrapped in steerkit's `ModelHandle`.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from base import Cannot, Mix, TransformersDriver, add_hooks
from passes import timed, told
from protocol import HOOK, STEERED
from steerkit import CompositeProbe, ModelHandle, Probe
from transformer_lens import HookedTransformer, loading_from_pretrained
from transformers import AutoTokenizer


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "steerkit", "transformer-lens")

    def prepare(self) -> None:
        folder, dtype = self.model.config.name_or_path, self.model.dtype
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = loading_from_pretrained.get_pretrained_model_config(
            folder, fold_ln=True, device="cpu", dtype=dtype
        )
        weights = loading_from_pretrained.get_pretrained_state_dict(
            folder, config, self.model, dtype=dtype
        )
        hooked = HookedTransformer(config, tokenizer, move_to_device=False)
        hooked.load_and_process_state_dict(weights, center_unembed=False)
        hooked.generate = partial(hooked.generate, stop_at_eos=False)  # all tokens are made
        self.handle = _OfTokens(hooked.eval(), "model")
        self.probes = CompositeProbe([])

    def ask(self, rows: list[Mix | None]) -> None:
        mix = self.one_mix(rows) or {}
        asked = [(emotion, layer) for emotion in mix for layer in self.layers]
        self.probes = CompositeProbe(
            [self._probe(self.vectors[emotion][layer], layer) for emotion, layer in asked],
            [mix[emotion] for emotion, _ in asked],
        )

    def _probe(self, direction: torch.Tensor, layer: int) -> Probe:
        return Probe(
            directions={"given": direction},
            bias={},
            layer=layer,
            metrics={},
            model_id="model",
            hook_site="resid_post",
            hook_name=f"blocks.{layer}.hook_resid_post",
            n_total_layers=self.handle.n_layers,
            default_method="given",
            auto_alpha=1.0,
        )

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        handles = self._plain_hooks() if how == HOOK else []
        try:
            with timed(self.handle.hooked.unembed) as times:
                self._steer(how, prompts, new_tokens)
        finally:
            for handle in handles:
                handle.remove()
        return told(times, new_tokens)

    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        if how == HOOK:
            super().logits(how, prompts, file)  # of the model as transformers has it
            return
        heard: list[torch.Tensor] = []

        def say(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
            heard.append(logits[:, -1])
            return torch.full_like(logits, -torch.inf).index_fill(2, said, 0)

        said = torch.tensor(prompts[0][-1:])
        handle = self.handle.hooked.unembed.register_forward_hook(say)
        try:
            self._steer(how, [row[:-1] for row in prompts], 2)
        finally:
            handle.remove()
        np.save(file, heard[1].float().numpy())

    def _steer(self, how: str, prompts: list[list[int]], new_tokens: int) -> None:
        if len(prompts) > 1:
            raise Cannot("takes one prompt at a time")
        probes = self.probes if how == STEERED else CompositeProbe([])
        probes.steer(self.handle, prompts, max_new_tokens=new_tokens)

    def _plain_hooks(self) -> list[Any]:
        blocks = SimpleNamespace(model=SimpleNamespace(layers=self.handle.hooked.blocks))
        rows = self.by_row(self.rows).to(self.model.dtype)
        return add_hooks(blocks, self.layers, [rows[layer] for layer in self.layers])


class _OfTokens(ModelHandle):
    """Takes tokens where steerkit takes text and puts it into a chat."""

    def format_chat(self, prompt: Any, response: str | None = None) -> torch.Tensor:
        return torch.tensor(prompt)
