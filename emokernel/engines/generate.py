"""The transformers engine: plain forward calls and `generate`."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from emokernel.engines.rows import Call, Generation
from emokernel.errors import SteeringError
from emokernel.patch.forward import ReplacedMethod

# (model, what its generate was given) of the innermost `generate` that runs in this context.
_running: ContextVar[tuple[nn.Module, Generation] | None] = ContextVar("generation", default=None)


def is_plain(named: dict[str, Any]) -> bool:
    """Whether nothing tells the tokens of a call apart: no mask, no `generate`, no packing."""
    return (
        named.get("attention_mask") is None
        and _running.get() is None
        and "cu_seq_lens_q" not in named
    )


def read_call(model: nn.Module, named: dict[str, Any], recorded_mask: Tensor | None) -> Call:
    """What a decoder was called with: ``named`` are the arguments of its forward.

    SteeringError if they do not show which tokens are padding, and no ``recorded_mask`` does.
    """
    rows = named.get("input_ids")
    if rows is None:
        rows = named["inputs_embeds"]
    cache = named.get("past_key_values")
    past = int(cache.get_seq_length()) if cache is not None else 0
    mask = named.get("attention_mask")
    running = _running.get()
    generation = running[1] if running is not None and running[0] is model else None
    if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
        if generation is None and recorded_mask is None:
            raise SteeringError(
                "only a 2-D attention_mask shows where padding is: pass one, or give"
                " attention_mask= to requests"
            )
        mask = None
    if "cu_seq_lens_q" in named:
        raise SteeringError("packed sequences (continuous batching) cannot be steered yet")
    return Call(rows.shape[0], rows.shape[1], past, mask, generation)


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
                mask = self._mask(given, prompts)
                return Generation(self._width(given, prompts.shape[1], mask), mask)
        return Generation(1, None)

    @staticmethod
    def _width(given: dict[str, Any], tokens: int, mask: Tensor | None) -> int:
        """Columns up to the end of the prompt; a filled cache may stand for the first of them."""
        cache = given.get("past_key_values")
        past = int(cache.get_seq_length()) if cache is not None else 0
        new_only = past >= tokens or (mask is not None and mask.shape[1] == past + tokens)
        return past + tokens if new_only else tokens

    def _mask(self, given: dict[str, Any], prompts: Tensor) -> Tensor | None:
        """The mask given, else the one that `generate` infers from pad tokens in the prompts."""
        if given.get("attention_mask") is not None or prompts.dim() != 2:
            return given.get("attention_mask")
        pad, eos = (self._token_id(given, name) for name in ("pad_token_id", "eos_token_id"))
        if pad is None or pad in (eos if isinstance(eos, list | tuple) else [eos]):
            return None
        return (prompts != pad).long()

    def _token_id(self, given: dict[str, Any], name: str) -> Any:
        """A special token as `generate` finds it: its argument, its config, the model's config."""
        places = (given.get("generation_config"), self.module.generation_config)
        found = [given.get(name), *(getattr(place, name, None) for place in places)]
        return next((value for value in found if value is not None), None)
