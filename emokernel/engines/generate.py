"""The transformers engine: plain forward calls and `generate`."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from emokernel.engines.rows import Call, Generation
from emokernel.patch.forward import ReplacedMethod

# (model, what its generate was given) of the innermost `generate` that runs in this context.
_running: ContextVar[tuple[nn.Module, Generation] | None] = ContextVar("generation", default=None)


def read_call(model: nn.Module, named: dict[str, Any]) -> Call:
    """What a decoder was called with: ``named`` are the arguments of its forward."""
    rows = named.get("input_ids")
    if rows is None:
        rows = named["inputs_embeds"]
    cache = named.get("past_key_values")
    past = int(cache.get_seq_length()) if cache is not None else 0
    mask = named.get("attention_mask")
    running = _running.get()
    generation = running[1] if running is not None and running[0] is model else None
    return Call(
        rows.shape[0], rows.shape[1], past, mask if isinstance(mask, Tensor) else None, generation
    )


class RecordedGenerate(ReplacedMethod):
    """A model's `generate` that also records the width and mask of its prompts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, "generate")
        self._names = list(inspect.signature(self.original).parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self._names, args, strict=False)) | kwargs
        token = _running.set((self.module, self._prompts(given)))
        try:
            return self.original(*args, **kwargs)
        finally:
            _running.reset(token)

    def _prompts(self, given: dict[str, Any]) -> Generation:
        for name in ("inputs", "input_ids", "inputs_embeds"):
            prompts = given.get(name)
            if prompts is not None:
                return Generation(prompts.shape[1], self._mask(given, prompts))
        return Generation(1, None)

    def _mask(self, given: dict[str, Any], prompts: Tensor) -> Tensor | None:
        """The mask given, else the one that `generate` infers from pad tokens in the prompts."""
        if given.get("attention_mask") is not None or prompts.dim() != 2:
            return given.get("attention_mask")
        config = given.get("generation_config") or self.module.generation_config
        pad = given.get("pad_token_id", config.pad_token_id)
        eos = given.get("eos_token_id", config.eos_token_id)
        if pad is None or pad in (eos if isinstance(eos, list | tuple) else [eos]):
            return None
        return (prompts != pad).long()
