"""Which blocks of the prefix cache requests may share: those whose tokens were steered alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emokernel.engines.vllm.asked import KINDS, held


def steered_ranges(
    kinds: tuple[bool, bool, bool], prompt_length: int, start: int, stop: int
) -> list[tuple[int, int]]:
    """Which of the tokens ``start`` to ``stop`` are steered, as ranges counted from ``start``.

    ``kinds``: whether prompt tokens, the last of them and generated ones are.
    """
    last = max(0, prompt_length - 1)
    bounds = (0, last), (last, prompt_length), (prompt_length, stop)
    ranges: list[tuple[int, int]] = []
    for (first, end), steered in zip(bounds, kinds, strict=True):
        first, end = max(first, start) - start, min(end, stop) - start
        if steered and first < end:
            if ranges and ranges[-1][1] == first:
                first = ranges.pop()[0]
            ranges.append((first, end))
    return ranges


def extra_keys(original: Callable, request: Any, start: int, stop: int, *rest: Any) -> Any:
    """vLLM's ``generate_block_hash_extra_keys``, and how the tokens of the block were steered.

    A block in which none is has the key that it has without the plugin. The blocks before it need
    nothing here: a key holds that of the block before.
    """
    keys, *others = original(request, start, stop, *rest)
    packed = held(request.sampling_params)
    if packed is not None:
        ranges = steered_ranges(KINDS[packed["kinds"]], request.num_prompt_tokens, start, stop)
        if ranges:
            where = ",".join(f"{first}-{end}" for first, end in ranges)
            keys = (*(keys or ()), ("emokernel", f"{packed['key']}:{where}"))
    changed = getattr(request, "emokernel_changed", None)
    if changed is not None and start <= changed < stop:
        keys = (*(keys or ()), ("emokernel", f"of {request.request_id} alone"))
    return keys, *others


def session_turn(original: Callable, scheduler: Any, session: Any, update: Any) -> None:
    """vLLM's next turn of a session whose input is streamed; it may ask for another emotion.

    vLLM gives the blocks of the new turn their keys while the session still has the parameters of
    the old one. So the block in which the first change falls, and with it all that follow it, is
    the session's own.
    """
    before, after = held(session.sampling_params), held(update.sampling_params)
    if before != after and not hasattr(session, "emokernel_changed"):
        session.emokernel_changed = session.num_computed_tokens
    original(scheduler, session, update)
