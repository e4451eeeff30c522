"""Where the new tokens of a call stand, read off the arguments of the decoder's forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emokernel.engines.base import ForwardCall
from emokernel.engines.plan import PaddedBatch
from emokernel.engines.texts import Generation, Text
from emokernel.errors import SteeringError


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
