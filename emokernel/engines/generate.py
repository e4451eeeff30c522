"""The transformers engine: plain forward calls and `generate`."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.engines.generation import Generation, Text
from emokernel.engines.rows import Call, Prompts
from emokernel.errors import SteeringError
from emokernel.patch.forward import ReplacedMethod

# (model, what its generate was given) of the innermost `generate` that runs in this context.
_running: ContextVar[tuple[nn.Module, Generation] | None] = ContextVar("generation", default=None)


# Options with which `generate` may run the model on several generated tokens at a time.
_SPANS = (
    "assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "custom_generate",
    "use_mtp",
)  # fmt: skip


def _generation() -> tuple[nn.Module, Generation] | None:
    """What runs in this context; one that has ended may be left in a copy of its context."""
    running = _running.get()
    return None if running is None or running[1].ended else running


def is_plain(named: dict[str, Any]) -> bool:
    """Whether nothing tells the tokens of a call apart: no mask, no `generate`."""
    return named.get("attention_mask") is None and _generation() is None


def follow_call(
    model: nn.Module, named: dict[str, Any], device: torch.device
) -> tuple[Text | None, int | Tensor | None]:
    """(The text of the running `generate` that a call belongs to, if any; the columns before it).

    The columns are None outside of `generate` where a cache does not count its tokens.

    ``named``: the arguments of the decoder's forward. To be called for every call within
    `generate`, steered or not, once for each ``device`` of the model.
    """
    rows, cache, running = _rows_of(named), _cache_of(named), _generation()
    past = _columns_in(cache)
    if running is None or running[0] is not model:
        return None, past.to(device) if isinstance(past, Tensor) else past
    text = running[1].text_of(cache, past, rows.shape[1], _mask_of(named), device)
    return text, text.advance(past, rows.shape[1], device)


def read_call(
    model: nn.Module, named: dict[str, Any], recorded_mask: Tensor | None, device: torch.device
) -> Call:
    """What a decoder was called with, for each ``device`` of the model; `follow_call` included.

    SteeringError if the arguments do not show which tokens are padding, and no ``recorded_mask``
    does, or if `generate` was given what cannot be steered.
    """
    text, past = follow_call(model, named, device)
    if text is not None and (problem := _generation()[1].problem) is not None:
        raise SteeringError(problem)
    mask = _mask_of(named)
    recorded = recorded_mask is not None or (text is not None and text.is_own)
    if named.get("attention_mask") is not None and mask is None and not recorded:
        raise SteeringError(
            "only a 2-D attention_mask shows where padding is: pass one, or give attention_mask= to"
            " requests"
        )
    batch, tokens = _rows_of(named).shape[:2]
    if past is None and mask is not None and mask.shape[1] > tokens:
        past = mask.shape[1] - tokens
    return Call(batch, tokens, past, mask, None if text is None else text.prompts)


def read_traced_call(named: dict[str, Any], generating: bool) -> Call:
    """What a forward is called with that torch.compile traces or a CUDA graph captures.

    Its prompts are on the board. SteeringError where `read_call` raises one, and where only
    `generate` could count the columns.
    """
    batch, tokens = _rows_of(named).shape[:2]
    past, mask = _columns_in(_cache_of(named)), _mask_of(named)
    if named.get("attention_mask") is not None and mask is None and not generating:
        raise SteeringError(
            "only a 2-D attention_mask shows where padding is: pass one, or use `generate`"
        )
    if past is None and mask is not None:
        past = mask.shape[1] - tokens
    if past is None:
        raise SteeringError(
            "the model's cache does not count its tokens: pass an attention_mask of all columns,"
            " or run the model without torch.compile and CUDA graphs"
        )
    return Call(batch, tokens, past, mask, None)


def is_generating(model: nn.Module) -> bool:
    """Whether a `generate` of the model runs in this context."""
    running = _generation()
    return running is not None and running[0] is model


def _rows_of(named: dict[str, Any]) -> Tensor:
    ids = named.get("input_ids")
    return named["inputs_embeds"] if ids is None else ids


def _cache_of(named: dict[str, Any]) -> Any:
    """What a call goes on from, by the name that the model has for it."""
    found = (named.get(name) for name in ("past_key_values", "cache_params", "state"))
    return next((cache for cache in found if cache is not None), None)


def _columns_in(cache: Any) -> int | Tensor | None:
    """How many columns a cache holds, None where it does not count them (recurrent states)."""
    if cache is None:
        return 0
    try:
        return cache.get_seq_length()
    except (AttributeError, ValueError):
        return None


def _mask_of(named: dict[str, Any]) -> Tensor | None:
    mask = named.get("attention_mask")
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


class RecordedGenerate(ReplacedMethod):
    """A model's `generate` that also records where its prompts end and which of it is padding."""

    def __init__(
        self, model: nn.Module, caller: Callable[[Generation], AbstractContextManager]
    ) -> None:
        """``caller(generation)`` is open while a generation runs."""
        super().__init__(model, "generate")
        self._caller = caller
        self._names = list(inspect.signature(self.original).parameters)
        # Where the prompts of a draft end, by the cache that `generate` goes on with in each round.
        self._drafts: weakref.WeakKeyDictionary[Any, Prompts] = weakref.WeakKeyDictionary()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self._names, args, strict=False)) | kwargs
        drafting = bool(self._option(given, "is_assistant"))
        prompts, problem = self._prompts(given)
        if drafting and given.get("past_key_values") is not None:
            # An assistant is given the text so far: only in the first round that is the prompt.
            prompts = self._drafts.get(given["past_key_values"], prompts)
        spans = drafting or any(self._option(given, name) for name in _SPANS)
        guided, sided = self._is_guided(given), self._is_sided(given)
        generation = Generation(prompts, problem, guided, spans, sided)
        token = _running.set((self.module, generation))
        try:
            with self._caller(generation):
                output = self.original(*args, **kwargs)
        finally:
            generation.ended = True
            _running.reset(token)
        if drafting and getattr(output, "past_key_values", None) is not None:
            self._drafts[output.past_key_values] = prompts
        return output

    def _prompts(self, given: dict[str, Any]) -> tuple[Prompts, str | None]:
        """(Where the prompts end and their mask; why they cannot be steered, if so)."""
        ids = given.get("inputs")
        ids = given.get("input_ids") if ids is None else ids
        embeds = given.get("inputs_embeds")
        if ids is None and embeds is None:
            return Prompts(1, None), None  # `generate` starts from the bos token
        mask = given.get("attention_mask")
        if mask is None:
            mask = self._inferred_mask(given, ids if ids is not None and ids.shape[1] else embeds)
        problem = None
        if mask is not None and mask.dim() != 2:
            mask, problem = None, "only a 2-D attention_mask shows `generate` where padding is"
        if self._option(given, "token_healing"):
            problem = "token_healing changes the prompts after they were given: heal them before"
        if self._adds_virtual_tokens():
            problem = (
                "prompt and prefix tuning (PEFT) put rows of their own before every prompt, which"
                " `generate` cannot tell apart yet: use an adapter that can be merged, such as LoRA"
            )
        rows = ids if embeds is None else embeds
        return Prompts(self._width(given, rows.shape[1], embeds is None, mask), mask), problem

    @staticmethod
    def _width(given: dict[str, Any], tokens: int, are_ids: bool, mask: Tensor | None) -> int:
        """Columns up to the end of the prompt; a filled cache may stand for the first of them."""
        cache = given.get("past_key_values")
        past = int(_columns_in(cache) or 0)
        if are_ids and mask is not None and mask.shape[1] != tokens:
            return past + tokens  # `generate` takes them for what follows the cache
        # It takes them for the whole text, and cuts off as many as the cache holds.
        return past + len(range(tokens)[-(tokens - past) :])

    def _inferred_mask(self, given: dict[str, Any], prompts: Tensor) -> Tensor | None:
        """The mask ``[batch, tokens]`` that `generate` infers from pad tokens in the prompts."""
        if prompts.dim() != 2 or prompts.dtype not in (torch.int, torch.long):
            return None
        pad, eos = (self._option(given, name) for name in ("pad_token_id", "eos_token_id"))
        if pad is None:
            return None
        pad = torch.as_tensor(pad, device=prompts.device)
        if eos is not None and torch.isin(torch.as_tensor(eos, device=prompts.device), pad).any():
            return None
        return (prompts != pad).long()

    def _adds_virtual_tokens(self) -> bool:
        """Whether a PEFT model that puts its own rows before the prompts has begun this call."""
        begun_by = vars(self.module).get("prepare_inputs_for_generation")
        config = getattr(getattr(begun_by, "__self__", None), "active_peft_config", None)
        return bool(getattr(config, "is_prompt_learning", False))

    def _is_guided(self, given: dict[str, Any]) -> bool:
        return self._option(given, "guidance_scale") not in (None, 1)

    def _is_sided(self, given: dict[str, Any]) -> bool:
        """Whether a logits processor holds this model, or a module around it, to run it."""
        held = (
            value
            for processor in given.get("logits_processor") or ()
            for value in getattr(processor, "__dict__", {}).values()
            if isinstance(value, nn.Module)
        )
        return any(part is self.module for module in held for part in module.modules())

    def _option(self, given: dict[str, Any], name: str) -> Any:
        """An option as `generate` finds it: its argument, its config, the model's config."""
        if name in given:
            return given[name]
        places = (given.get("generation_config"), self.module.generation_config)
        found = [getattr(place, name, None) for place in places]
        return next((value for value in found if value is not None), None)
