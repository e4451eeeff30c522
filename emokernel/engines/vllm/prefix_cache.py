"""Which blocks of the prefix cache requests may share: those whose tokens were steered alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emokernel.engines.vllm.asked import KEY, KINDS, held
from emokernel.state.rows import slot_at


def extra_keys(original: Callable, request: Any, start: int, stop: int, *rest: Any) -> Any:
    """vLLM's ``generate_block_hash_extra_keys``, and how the tokens of the block were steered.

    A block in which none is has the key that it has without the plugin. The blocks before it need
    nothing here: a key holds that of the block before.
    """
    keys, *others = original(request, start, stop, *rest)
    packed = held(request.sampling_params)
    if packed is not None:
        kinds, last = np.array([KINDS[packed["kinds"]]]), np.array(request.num_prompt_tokens - 1)
        steered = slot_at(kinds, np.array(0), np.arange(start, stop), last)
        if steered.any():
            where = np.packbits(steered).tobytes().hex()
            # A pair, of which vLLM's events of the cache publish the second.
            keys = (*(keys or ()), (KEY, f"{packed['key']}:{where}"))
    return keys, *others
