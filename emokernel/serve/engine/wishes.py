"""What one HTTP request asks of whoever generates for it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import GenerationConfig

from emokernel.lab.measure.nucleus import Choice
from emokernel.requests import Request


class Timing(Protocol):
    """Who is told of each token."""

    def token(self) -> None:
        """A token has been generated."""


@dataclass
class Wish:
    """How a request is steered, sampled and ended; ``ask`` is what it says of emotion.

    ``temperature``, ``top_p``: as the model's generation config has them where None. ``seed``: of
    its random numbers; others each time where None. ``stop``: texts before which the answer ends.
    ``limited``: whether it says itself how many tokens it wants. ``timing`` and ``read`` are told
    of each token and of the number of tokens of the prompt.
    """

    ask: Request | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    limited: bool = False
    timing: Timing | None = None
    read: Callable[[int], object] = lambda _: None
    # Whether something was: what fails before is wrong with the request.
    begun: bool = False
    # Whether it ended by itself or by a stop, and not at its limit.
    whole: bool = False
    # What ends the generation that was begun for it; harmless when that is over.
    cancel: Callable[[], object] = field(default=lambda: None)

    def choice(self, config: GenerationConfig) -> Choice:
        """How tokens are chosen; ``config``: the model's own, which says what is not asked for.

        A model whose config does not say that it samples takes the likeliest token.
        """
        usual: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "top_k": 0}
        if config.do_sample or self.temperature:
            # Those that the config leaves open mean no change to the probabilities.
            usual = {"temperature": 1.0, "top_p": config.top_p or 1.0, "top_k": config.top_k or 0}
            usual["temperature"] = 1.0 if config.temperature is None else config.temperature
        if self.temperature is not None:
            usual["temperature"] = self.temperature
        if self.top_p is not None:
            usual["top_p"] = self.top_p
        return Choice(**usual)


# That of the request in whose context a handler runs.
wish: ContextVar[Wish] = ContextVar("wish")
