"""One request after the other, by `generate`: for models that cannot be batched continuously."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.cli.serving.utils import InferenceThread
from transformers.generation.streamers import BaseStreamer

from emokernel.serve.engine.manager import FAILED, Manager
from emokernel.serve.engine.texts import Streamer
from emokernel.serve.engine.turns import Turns
from emokernel.serve.engine.wishes import Wish
from emokernel.serve.front.errors import UnavailableError
from emokernel.steering import Steering

_LOG = logging.getLogger(__name__)


class OneByOne(Manager):
    """All in one thread, since what `torch.compile` keeps belongs to one."""

    def __init__(self, model: PreTrainedModel, steering: Steering, turns: Turns) -> None:
        """``turns``: taken for a whole answer."""
        super().__init__(model)
        self._steering, self._turns = steering, turns
        self._thread = InferenceThread()
        self._running: set[Streamer] = set()

    def start(self) -> None:
        """It is ready."""

    def is_alive(self) -> bool:
        """It is."""
        return True

    def _begin(
        self, ids: list[int], inputs: Any, config: GenerationConfig, streamer: Streamer, own: Wish
    ) -> None:
        loop = asyncio.get_running_loop()
        choice = own.choice(config)
        config.do_sample = choice.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p, config.top_k = (
                choice.temperature,
                choice.top_p,
                choice.top_k,
            )
        else:
            config.temperature = config.top_p = config.top_k = None
        further = {"generation_mode": "text"} if hasattr(self.model, "has_talker") else {}
        self._running.add(streamer)

        def on_loop(work: Callable[..., object], *args: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(work, *args)

        def work() -> None:
            tokens = _Tokens(on_loop, streamer, self._running)
            try:
                with torch.random.fork_rng(enabled=own.seed is not None):
                    if own.seed is not None:
                        torch.manual_seed(own.seed)
                    with self._turns, self._steering.requests([own.ask]):
                        tokens.check()
                        self.model.generate(
                            **inputs, **further, streamer=tokens, generation_config=config
                        )
                on_loop(streamer.end)
            except _Left:
                pass
            except Exception:
                _LOG.exception("the model could not go on")
                on_loop(streamer.fail, UnavailableError(FAILED))
            finally:
                self._running.discard(streamer)

        self._thread.submit(work)

    def _cancel(self, streamer: Streamer) -> None:
        self._running.discard(streamer)

    def stop(self) -> None:
        """The thread ends with the process; what runs in it ends with its next token."""
        self._running.clear()


class _Left(Exception):
    """Nobody waits for what is generated."""


class _Tokens(BaseStreamer):
    """Passes the tokens of `generate` on, and ends it when nobody waits for them."""

    def __init__(self, on_loop: Callable, streamer: Streamer, running: set[Streamer]) -> None:
        self._on_loop, self._streamer, self._running = on_loop, streamer, running
        self._is_prompt = True

    def check(self) -> None:
        """_Left if nobody waits."""
        if self._streamer not in self._running:
            raise _Left

    def put(self, value: torch.Tensor) -> None:
        """The prompt, then a token at a time."""
        self.check()
        if not self._is_prompt:
            self._on_loop(self._streamer.take, value.tolist())
        self._is_prompt = False

    def end(self) -> None:
        """`generate` is about to return."""
