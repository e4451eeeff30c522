"""Plain forward calls and `generate` of transformers, in which Python decides every call's rows."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from emokernel.engines.base import Engine, ForwardCall
from emokernel.engines.plan import RecordedPrompts
from emokernel.engines.requested import Requested
from emokernel.engines.texts import Generation, columns_in, follow_call, read_call
from emokernel.replaced import ReplacedMethod
from emokernel.state import UNTOUCHED, DeviceState

# Options with which `generate` may run the model on several generated tokens at a time.
_SPANS = (
    "assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "custom_generate",
    "use_mtp",
)  # fmt: skip


# The arguments of a call of `generate` by name.
Given = dict[str, Any]


class PlainForwards(Engine):
    """Everything that nobody else claims."""

    def __init__(self, requested: Requested) -> None:
        self._requested = requested

    def claims(self, call: ForwardCall) -> bool:
        """Every call that Python runs."""
        return not call.traced

    def token_slot(self, call: ForwardCall, state: DeviceState) -> Tensor:
        """By what is asked for in this thread, and by where the prompts of a `generate` end."""
        plan, generation = self._requested.plan(), self._requested.callers.generation()
        slot: int | None = UNTOUCHED
        if plan is None:
            if generation is not None:
                follow_call(generation, call, state.device)
        else:
            slot = plan.slot_of_all
            if slot is None or generation is not None or call.is_masked:
                return plan.token_slot(read_call(generation, call, plan.mask, state.device), state)
        batch, tokens = call.tokens.shape[:2]
        return state.constant_rows(batch * tokens, slot)

    def replacements(self, model: nn.Module) -> list[ReplacedMethod]:
        """`generate`."""
        return [RecordedGenerate(model, self._requested)] if hasattr(model, "generate") else []


class RecordedGenerate(ReplacedMethod):
    """A model's `generate` that also records where its prompts end and which of it is padding."""

    def __init__(self, model: nn.Module, requested: Requested) -> None:
        super().__init__(model, "generate")
        self._requested = requested
        self._names = list(inspect.signature(self.original).parameters)
        # Where the prompts of a draft end, by the cache that `generate` goes on with in each round.
        self._drafts: weakref.WeakKeyDictionary[Any, RecordedPrompts] = weakref.WeakKeyDictionary()

    def __call__(self, *args: object, **kwargs: object) -> object:
        given = dict(zip(self._names, args, strict=False)) | kwargs
        drafting = bool(self._option(given, "is_assistant"))
        prompts, problem = self._prompts(given)
        if drafting and given.get("past_key_values") is not None:
            # An assistant is given the text so far: only in the first round that is the prompt.
            prompts = self._drafts.get(given["past_key_values"], prompts)
        spans = drafting or any(self._option(given, name) for name in _SPANS)
        guided = self._option(given, "guidance_scale") not in (None, 1)
        generation = Generation(prompts, problem, guided, spans, self._is_sided(given))
        with self._requested.generating(generation):
            output = self.original(*args, **kwargs)
        if drafting and getattr(output, "past_key_values", None) is not None:
            self._drafts[output.past_key_values] = prompts
        return output

    def _prompts(self, given: Given) -> tuple[RecordedPrompts, str | None]:
        """(Where the prompts end and their mask; why they cannot be steered, if so)."""
        ids = given.get("inputs")
        ids = given.get("input_ids") if ids is None else ids
        embeds = given.get("inputs_embeds")
        rows = ids if embeds is None else embeds
        if rows is None:
            return RecordedPrompts(1, None), None  # `generate` starts from the bos token
        mask = given.get("attention_mask")
        if mask is None:
            mask = self._inferred_mask(given, ids if ids is not None and ids.shape[1] else rows)
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
        width = self._width(given, rows.shape[1], embeds is None, mask)
        return RecordedPrompts(width, mask), problem

    @staticmethod
    def _width(given: Given, tokens: int, are_ids: bool, mask: Tensor | None) -> int:
        """Columns up to the end of the prompt; a filled cache may stand for the first of them."""
        cache = given.get("past_key_values")
        past = int(columns_in(cache) or 0)
        if are_ids and mask is not None and mask.shape[1] != tokens:
            return past + tokens  # `generate` takes them for what follows the cache
        # It takes them for the whole text, and cuts off as many as the cache holds.
        return past + len(range(tokens)[-(tokens - past) :])

    def _inferred_mask(self, given: Given, prompts: Tensor) -> Tensor | None:
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

    def _is_sided(self, given: Given) -> bool:
        """Whether a logits processor holds this model, or a module around it, to run it."""
        held = (
            value
            for processor in given.get("logits_processor") or ()
            for value in getattr(processor, "__dict__", {}).values()
            if isinstance(value, nn.Module)
        )
        return any(part is self.module for module in held for part in module.modules())

    def _option(self, given: Given, name: str) -> Any:
        """An option as `generate` finds it: its argument, its config, the model's config."""
        if name in given:
            return given[name]
        places = (given.get("generation_config"), self.module.generation_config)
        values = (getattr(place, name, None) for place in places)
        return next((value for value in values if value is not None), None)
