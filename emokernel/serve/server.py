"""The server: transformers' options, model and handlers, below an application of our own."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvicorn
from transformers import ContinuousBatchingConfig
from transformers.cli.serve import Serve
from transformers.cli.serving.utils import GenerationState, Modality

from emokernel.errors import EmokernelError
from emokernel.serve.app import make_app
from emokernel.serve.engine import Batched, OneByOne, Turns
from emokernel.serve.engine.manager import Manager
from emokernel.serve.front.admission import Admission
from emokernel.serve.front.exposure import Settings
from emokernel.serve.front.guard import front
from emokernel.serve.front.limits import Limits
from emokernel.serve.metrics import Metrics
from emokernel.serve.service import Service
from emokernel.steering import Steering, patch
from emokernel.vectors import EmotionVectors

# Of a prompt for each token that the model reads: more cannot fit, and to count them would keep all
# others waiting.
_CHARACTERS = 16


class SteeredServe(Serve):
    """A server of one model, ready to answer, which does not listen before `run`.

    `Serve` loads the model and makes the handlers. They are given what generates for them here.
    """

    def __init__(
        self,
        model: str,
        vectors: EmotionVectors,
        slots: int,
        name: str,
        judge: str,
        limits: Limits,
        settings: Settings,
        *,
        continuous_batching: bool | None = None,
        **options: Any,
    ) -> None:
        """``name``: what clients call ``model``; ``options``: those of `Serve`.

        ``continuous_batching``: where the model can, unless given. EmokernelError if the vectors do
        not fit the model, or if it cannot what it is to do.
        """
        if slots < limits.running:
            raise EmokernelError(
                f"{limits.running} requests at a time can have as many emotions, which needs as"
                f" many slots: give --slots {limits.running} or more, or a lower --running"
            )
        super().__init__(
            model, **options, continuous_batching=continuous_batching is not False,
            non_blocking=True,
        )  # fmt: skip
        logging.getLogger("transformers.cli.serving").setLevel(logging.ERROR)  # a line a request
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("emokernel").setLevel(options.get("log_level", "warning").upper())
        handlers = self._chat_handler, self._completion_handler, self._response_handler
        loaded, processor = self._chat_handler._resolve_model({})[1:]
        steering = patch(loaded, vectors, slots=slots)
        turns = Turns()
        manager = self._manager(loaded, processor, steering, turns, continuous_batching)
        if manager.context is not None:
            most = min(limits.prompt_characters, _CHARACTERS * manager.context)
            limits = replace(limits, prompt_characters=most)
        self.service = Service(
            name, loaded, processor, vectors, judge, manager, turns, limits,
            Admission(limits.running, limits.waiting), Metrics(), slots,
            hasattr(processor, "image_processor"),
        )  # fmt: skip
        state = _State(manager)
        for handler in handlers:
            handler.generation_state = state
            handler._resolve_model = lambda _: (name, loaded, processor)
        self.app = make_app(self.service, *handlers)
        served = front(self.app, settings, self.service.metrics)
        self.server = _Server(
            uvicorn.Config(
                served, log_level="warning", access_log=False, server_header=False,
                timeout_graceful_shutdown=limits.drain_s,
            ),
            self.service,
        )  # fmt: skip

    def start_server(self) -> None:
        """Not yet: `Serve` calls this when its parts are made."""

    def steering(self) -> Steering:
        """The handle of the model."""
        return self.service.steering()

    def run(self, listening: socket.socket, begun: Callable[[], object] = lambda: None) -> None:
        """Answer on ``listening`` until the process is stopped; ``begun`` is called once it does.

        What runs when SIGTERM comes is answered; then the process ends, with status 0.
        """
        self.server.begun = begun
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # sent again when all is answered
        try:
            self.server.run(sockets=[listening])
        finally:
            self.close()

    def close(self) -> None:
        """Nothing generates any more."""
        self.service.manager.stop()

    def _manager(
        self,
        model: Any,
        processor: Any,
        steering: Steering,
        turns: Turns,
        batching: bool | None,
    ) -> Manager:
        """What generates, started; one request after the other where batching is not demanded."""
        reason = None
        if batching is not False:
            modality = self._model_manager.get_model_modality(model, processor=processor)
            if modality is not Modality.LLM or not hasattr(model, "init_continuous_batching"):
                reason = f"a {type(model).__name__} cannot be batched continuously"
            else:
                config = self._generation_state._cb_config or ContinuousBatchingConfig()
                batched = Batched(model, config, turns)
                try:
                    batched.start()
                    return batched
                except (EmokernelError, ValueError, RuntimeError) as error:
                    batched.stop()
                    reason = str(error)
        if reason is not None:
            if batching:
                raise EmokernelError(f"{reason}: leave --continuous-batching out")
            print(f"one request after the other: {reason}", flush=True)
        return OneByOne(model, steering, turns)


class _State(GenerationState):
    """Gives handlers the one manager that there is."""

    def __init__(self, manager: Manager) -> None:
        super().__init__()
        self._manager = manager

    def use_continuous_batching(self, model: Any, modality: Any) -> bool:
        """Whether prompts are lists of tokens, as for batches, or tensors."""
        return isinstance(self._manager, Batched)

    def get_manager(self, model_id: str, use_cb: bool = False) -> Any:
        """It."""
        return self._manager


class _Server(uvicorn.Server):
    """Says when it listens, and lets nothing new begin once it is to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.begun: Callable[[], object] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.begun()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal to stop has come: what runs is answered, what is new is refused."""
        # It comes between any two steps of the interpreter, those of the queue's own work too.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._service.admission.begin_draining)
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet; EmokernelError if it cannot be."""
    if not 0 <= port <= 65535:
        raise EmokernelError(f"there is no port {port}: give one of 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise EmokernelError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): give another --port, or"
            " --host"
        ) from error
    return bound


def address_of(bound: socket.socket) -> str:
    """The URL of a server that listens there."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def opened(url: str) -> None:
    """Show a page in the person's browser."""
    asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)
