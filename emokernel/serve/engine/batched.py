"""All requests at once, in the continuous batching of transformers."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from emokernel.errors import EmokernelError
from emokernel.replaced import Around
from emokernel.serve.engine.manager import FAILED, Manager
from emokernel.serve.engine.sampling import Drawing, RowSampling
from emokernel.serve.engine.texts import Streamer
from emokernel.serve.engine.turns import Turns
from emokernel.serve.engine.wishes import Wish
from emokernel.serve.front.errors import UnavailableError

_LOG = logging.getLogger(__name__)

# Seconds for the cache to be made, and for what runs to end when the server does.
_START, _STOP = 600.0, 5.0


class Batched(Manager):
    """Every request has an emotion, sampling and random numbers of its own."""

    def __init__(
        self, model: PreTrainedModel, config: ContinuousBatchingConfig, turns: Turns
    ) -> None:
        """``config``: of the batches and their cache. ``turns``: taken for each step."""
        super().__init__(model)
        self._config, self._turns = config, turns
        self._sampling = RowSampling()
        self._numbers = 0
        self._ids: dict[Streamer, str] = {}
        self._ready = threading.Event()
        self._manager: Any = None

    def start(self) -> None:
        """Make the cache and begin to wait for requests; EmokernelError if that fails."""
        own = self.model.generation_config
        plain = GenerationConfig(
            do_sample=False, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
        )
        self._manager = self.model.init_continuous_batching(
            generation_config=plain, continuous_batching_config=self._config
        )
        Around(self._manager, "_create_batch_processor", self._join).install()
        # What nobody waits for would be kept: a step of a request that was cancelled in it.
        self._manager.output_router.output_queue = _Nowhere()
        self._manager.start()
        status = self._manager.background_thread_status
        waited = 0.0
        while not self._ready.wait(0.05) and status.fatal_error is None and waited < _START:
            waited += 0.05
        if not self._ready.is_set():
            raise EmokernelError(f"continuous batching does not start: {status.fatal_error}")

    def _join(self, original: Callable) -> Any:
        processor = original()
        self._sampling.attach(processor)
        Around(processor, "_generation_step", self._step).install()
        cache = processor.cache
        # Up to transformers 5.17 by the second name.
        held = getattr(cache, "max_tokens_read", None) or cache.num_pages
        self.context = min(held, self.context or held)
        self._ready.set()
        return processor

    def _step(self, original: Callable, *args: Any, **kwargs: Any) -> object:
        with self._turns:
            return original(*args, **kwargs)

    def is_alive(self) -> bool:
        """Whether the thread that generates has met no error."""
        return self._ready.is_set() and self._manager.background_thread_status.fatal_error is None

    def _begin(
        self, ids: list[int], inputs: Any, config: GenerationConfig, streamer: Streamer, own: Wish
    ) -> None:
        if not self.is_alive():
            raise UnavailableError("what generates has failed: the server has to be started anew")
        self._numbers += 1
        request_id = f"request-{self._numbers}"
        drawing = Drawing(own.choice(self.model.generation_config), own.seed)
        self._ids[streamer] = request_id
        self._sampling.add(request_id, drawing)
        try:
            self._manager.register_result_handler(
                request_id, lambda output: self._take(streamer, output)
            )
            added = self._manager.add_request(
                ids,
                request_id=request_id,
                streaming=True,
                max_new_tokens=config.max_new_tokens,
                eos_token_id=config.eos_token_id,
                emotion=own.ask,
            )
        except BaseException:
            self._forget(streamer)
            raise
        if added is None:
            self._forget(streamer)
            raise UnavailableError("the server is being stopped: ask another one")

    def _take(self, streamer: Streamer, output: Any) -> None:
        try:
            self._pass_on(streamer, output)
        except Exception:  # what is raised here would keep the tokens of this step from others
            _LOG.exception("the tokens of a request cannot be passed on")
            streamer.fail(UnavailableError("what was generated cannot be read"))
            streamer.cancel()

    def _pass_on(self, streamer: Streamer, output: Any) -> None:
        if output.error is not None:
            _LOG.error("the model could not go on: %s", output.error)
            streamer.fail(UnavailableError(FAILED))
        elif output.request_id in self._sampling.problems:
            streamer.fail(EmokernelError(self._sampling.problems[output.request_id]))
        if streamer.queue.problem is not None:
            streamer.cancel()
            return
        streamer.take(output.generated_tokens[streamer.total_tokens :])
        if output.is_finished():
            self._forget(streamer)
            streamer.end()

    def _cancel(self, streamer: Streamer) -> None:
        request_id = self._forget(streamer)
        if request_id is not None:
            self._manager.cancel_request(request_id)

    def _forget(self, streamer: Streamer) -> str | None:
        request_id = self._ids.pop(streamer, None)
        if request_id is not None:
            self._sampling.end(request_id)
            self._manager.output_router.result_handlers.pop(request_id, None)
        return request_id

    def stop(self) -> None:
        """Nothing runs any more; harmless the second time, and where nothing was started."""
        if self._manager is not None and self._manager.is_running():
            self._manager.stop(block=True, timeout=_STOP)


class _Nowhere(queue.Queue):
    """Keeps nothing."""

    def put(self, *_: Any, **__: Any) -> None:
        """Drop it."""
