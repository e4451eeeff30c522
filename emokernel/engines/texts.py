"""Where the new tokens of a call stand: in which text, and behind how many columns.

The texts of one `generate` call are its own, and those that a logits processor runs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from emokernel.engines.base import ForwardCall
from emokernel.engines.plan import PaddedBatch, RecordedPrompts
from emokernel.errors import SteeringError

_TWO_TEXTS = (
    "guidance_scale runs two texts, which only a cache that counts its tokens tells apart: use"
    " use_cache=True, or a model that has such a cache"
)


@dataclass(eq=False)
class Text:
    """Sequences that grow in one cache; ``is_own``: those that `generate` itself makes."""

    prompts: RecordedPrompts
    cache: object
    is_own: bool
    # Columns so far, on each device of the model: a static cache would have to ask the device.
    columns: dict[torch.device, int] = field(default_factory=dict)


class Generation:
    """Which text each forward call within one `generate` belongs to, told by its cache.

    The first call is of `generate` itself. What is run beside it, by `guidance_scale` or by a
    logits processor that calls the model, is a text of its own: the first that it is given is its
    prompt.
    """

    def __init__(
        self,
        prompts: RecordedPrompts,
        problem: str | None = None,
        guided: bool = False,
        spans: bool = False,
        sided: bool = False,
    ) -> None:
        """``guided``: with a second text beside it; ``spans``: several new tokens in a step.

        ``sided``: a logits processor holds the model.
        """
        # Why the texts cannot be steered, if so; nobody is told unless they are to be.
        self.problem = problem
        self.prompts, self.guided, self.sided, self._spans = prompts, guided, sided, spans
        # Copies of its context may outlive it.
        self.ended = False
        # Whether requests that it began in were closed while it ran.
        self.outlived = False
        self._texts: list[Text] = []

    def traced_prompts(self) -> RecordedPrompts:
        """The prompts, for a compiled or captured model; SteeringError if that cannot tell them."""
        if self.problem is not None:
            raise SteeringError(self.problem)
        if self.guided or self.sided:
            raise SteeringError(
                "guidance_scale, or a logits processor that holds the model, runs texts beside the"
                " own one, which a compiled or captured model cannot tell apart: run the model as"
                " it is"
            )
        return self.prompts

    def follow(
        self, call: ForwardCall, past: int | Tensor | None, device: torch.device
    ) -> tuple[Text, int]:
        """(The text that a call continues or begins; the columns before it).

        ``past``: what its cache says of these. The new tokens are counted from now on.
        """
        text, tokens = self._text_of(call, past, device), call.tokens.shape[1]
        if not isinstance(past, int):
            known = text.columns.get(device)
            past = int(past or 0) if known is None else known
        text.columns[device] = past + tokens
        return text, past

    def _text_of(self, call: ForwardCall, past: int | Tensor | None, device: torch.device) -> Text:
        cache, tokens = call.cache, call.tokens.shape[1]
        own = self._texts[0] if self._texts else None
        beyond = isinstance(past, int) and past >= self.prompts.width
        if beyond and tokens > 1 and not self._spans and (own is None or own.cache is cache):
            # Some models take their whole text in each step, and leave out what is held.
            self.problem = (
                "the model is given several tokens in a step beside a cache, so that its rows"
                " cannot be told: use use_cache=False"
            )
        if own is None:
            self._texts.append(Text(self.prompts, cache, True))
            return self._texts[0]
        if cache is None:
            return self._uncached(own, tokens, call.mask)
        for text in self._texts:
            if text.cache is cache:
                return text
        if past is None:
            if self.guided:
                self.problem = _TWO_TEXTS
            own.cache = cache
            return own
        known = int(past)
        for text in self._texts:
            # The model itself made a cache in a call that was given none.
            if text.cache is None and known and known == text.columns.get(device):
                text.cache = cache
                return text
        return self._begin(cache, known + tokens, call.mask)

    def _uncached(self, own: Text, tokens: int, mask: Tensor | None) -> Text:
        if own.cache is None and self.guided:
            self.problem = _TWO_TEXTS
        if own.cache is None and tokens >= own.prompts.width:
            return own
        self._texts = [text for text in self._texts if text is own or text.cache is not None]
        return self._begin(None, tokens, mask)

    def _begin(self, cache: object, width: int, mask: Tensor | None) -> Text:
        self._texts.append(Text(RecordedPrompts(width, mask), cache, False))
        return self._texts[-1]


def follow_call(
    generation: Generation | None, call: ForwardCall, device: torch.device
) -> tuple[Text | None, int | Tensor | None]:
    """(The text of the running `generate` that a call belongs to, if any; the columns before it).

    The columns are None outside of `generate` where a cache does not count its tokens. To be called
    for every call within `generate`, steered or not, once for each ``device`` of the model.
    """
    past = columns_in(call.cache)
    if generation is not None:
        return generation.follow(call, past, device)
    return None, past.to(device) if isinstance(past, Tensor) else past


def read_call(
    generation: Generation | None,
    call: ForwardCall,
    recorded_mask: Tensor | None,
    device: torch.device,
) -> PaddedBatch:
    """What a decoder was called with, for each ``device`` of the model; `follow_call` included.

    SteeringError if the arguments do not show which tokens are padding, and no ``recorded_mask``
    does, or if `generate` was given what cannot be steered.
    """
    text, past = follow_call(generation, call, device)
    if generation is not None and generation.problem is not None:
        raise SteeringError(generation.problem)
    mask = call.mask
    recorded = recorded_mask is not None or (text is not None and text.is_own)
    if call.is_masked and mask is None and not recorded:
        raise SteeringError(
            "only a 2-D attention_mask shows where padding is: pass one, or give attention_mask= to"
            " requests"
        )
    batch, tokens = call.tokens.shape[:2]
    if past is None and mask is not None and mask.shape[1] > tokens:
        past = mask.shape[1] - tokens
    return PaddedBatch(batch, tokens, past, mask, None if text is None else text.prompts)


def read_traced_call(call: ForwardCall, generating: bool) -> PaddedBatch:
    """What a forward is called with that is traced; its prompts are in the plan buffer.

    SteeringError where `read_call` raises one, and where only `generate` could count the columns.
    """
    batch, tokens = call.tokens.shape[:2]
    past, mask = columns_in(call.cache), call.mask
    if call.is_masked and mask is None and not generating:
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
    return PaddedBatch(batch, tokens, past, mask, None)


def columns_in(cache: Any) -> int | Tensor | None:
    """How many columns a cache holds, None where it does not count them (recurrent states)."""
    if cache is None:
        return 0
    try:
        return cache.get_seq_length()
    except (AttributeError, ValueError):
        return None
