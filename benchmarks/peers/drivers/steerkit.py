"""steerkit: README "Smallest Useful Loop" and "multi-layer steering" (`CompositeProbe.steer`).

It steers TransformerLens models, which compute with weights of their own (norms folded in). A probe
of layer l hooks `blocks.l.hook_resid_post`, the end of block l, 0-based; a composite adds weight *
alpha * direction to every position. Directions are unit vectors and alpha their length; as plain
numbers go in, alpha is 1 and the weight ours. `steer` takes one prompt: a batch is not offered.
TransformerLens 3 knows no SmolLM2 by name and 4 has dropped the class that steerkit wants, so the
model is made by the steps of its `from_pretrained` and wrapped in steerkit's `ModelHandle`. The
plain hook is that of the model as transformers has it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from base import Cannot, Mix, TransformersDriver
from passes import timed, told
from protocol import HOOK, STEERED
from steerkit import CompositeProbe, ModelHandle, Probe
from transformer_lens import HookedTransformer
from transformer_lens import loading_from_pretrained as loading
from transformers import AutoTokenizer


class Peer(TransformersDriver):
    packages = (*TransformersDriver.packages, "steerkit", "transformer-lens")

    def prepare(self) -> None:
        folder, dtype = self.model.config.name_or_path, self.model.dtype
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = loading.get_pretrained_model_config(
            folder, fold_ln=True, device="cpu", dtype=dtype
        )
        weights = loading.get_pretrained_state_dict(folder, config, self.model, dtype=dtype)
        hooked = HookedTransformer(config, tokenizer, move_to_device=False)
        hooked.load_and_process_state_dict(weights, center_unembed=False)
        hooked.generate = partial(hooked.generate, stop_at_eos=False)  # all tokens are made
        self.handle = _OfTokens(hooked.eval(), "model")
        self.probes = CompositeProbe([])

    def ask(self, rows: list[Mix | None]) -> None:
        weighted = [
            (self._probe(self.vectors[emotion][layer], layer), weight)
            for emotion, weight in (self.one_mix(rows) or {}).items()
            for layer in self.layers
        ]
        self.probes = CompositeProbe([p for p, _ in weighted], [w for _, w in weighted])

    def _probe(self, vector: torch.Tensor, layer: int) -> Probe:
        where = "model", "resid_post", f"blocks.{layer}.hook_resid_post", self.handle.n_layers
        return Probe({"given": vector}, {}, layer, {}, *where, "given", auto_alpha=1.0)

    def decode(self, how: str, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        if how == HOOK:
            return super().decode(how, prompts, new_tokens)
        with timed(self.handle.hooked.unembed) as times:
            self._steer(how, prompts, new_tokens)
        return told(times, new_tokens)

    def logits(self, how: str, prompts: list[list[int]], file: str) -> None:
        if how == HOOK:
            return super().logits(how, prompts, file)
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


class _OfTokens(ModelHandle):
    """Takes tokens where steerkit takes text and puts it into a chat."""

    def format_chat(self, prompt: Any, response: str | None = None) -> torch.Tensor:
        return torch.tensor(prompt)
