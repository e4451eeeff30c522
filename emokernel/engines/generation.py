"""The texts of one `generate` call: its own, and those that a logits processor runs beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from emokernel.engines.rows import Prompts


@dataclass(eq=False)
class Text:
    """Sequences that grow in one cache; ``is_own``: those that `generate` itself makes."""

    prompts: Prompts
    cache: Any
    is_own: bool
    # Columns so far, on each device of the model: a static cache would have to ask the device.
    columns: dict[torch.device, int] = field(default_factory=dict)

    def advance(self, past: int | Tensor, tokens: int, device: torch.device) -> int:
        """The columns before a call with ``tokens`` new ones, which are counted from then on."""
        if isinstance(past, Tensor):
            known = self.columns.get(device)
            past = int(past) if known is None else known
        self.columns[device] = past + tokens
        return past


class Generation:
    """Which text each forward call within one `generate` belongs to, told by its cache.

    The first call is of `generate` itself. What is run beside it, by `guidance_scale` or by a
    logits processor that calls the model, is a text of its own: the first that it is given is its
    prompt.
    """

    def __init__(self, prompts: Prompts, problem: str | None = None, guided: bool = False) -> None:
        # Why the texts cannot be steered, if so; nobody is told unless they are to be.
        self.problem = problem
        self._prompts, self._guided = prompts, guided
        self._texts: list[Text] = []

    def text_of(
        self, cache: Any, past: int | Tensor, tokens: int, mask: Tensor | None, device: torch.device
    ) -> Text:
        """The text that a call continues or begins."""
        if not self._texts:
            self._texts.append(Text(self._prompts, cache, True))
            return self._texts[0]
        if cache is None:
            return self._uncached(tokens, mask)
        for text in self._texts:
            if text.cache is cache:
                return text
        known = int(past)
        for text in self._texts:
            # The model itself made a cache in a call that was given none.
            if text.cache is None and known and known == text.columns.get(device):
                text.cache = cache
                return text
        return self._begin(cache, known + tokens, mask)

    def _uncached(self, tokens: int, mask: Tensor | None) -> Text:
        own = self._texts[0]
        if own.cache is None and self._guided:
            self.problem = (
                "guidance_scale without a cache runs two texts that cannot be told apart: use"
                " use_cache=True"
            )
        if own.cache is None and tokens >= own.prompts.width:
            return own
        self._texts = [text for text in self._texts if text is own or text.cache is not None]
        return self._begin(None, tokens, mask)

    def _begin(self, cache: Any, width: int, mask: Tensor | None) -> Text:
        self._texts.append(Text(Prompts(width, mask), cache, False))
        return self._texts[-1]
