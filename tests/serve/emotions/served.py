"""A service of the embedded model with the routes of emotions, and calls to it."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from serve.front.calls import Call

from emokernel.serve.emotions.routes import emotion_routes
from emokernel.serve.front.admission import Admission
from emokernel.serve.front.handlers import install
from emokernel.serve.front.limits import Limits

COMPARE = "/v1/emotions/compare"
PROMPT = "This morning I"


class Counted:
    """Metrics that are lists."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, bool]] = []
        self.tokens, self.prompts = {True: 0, False: 0}, {True: 0, False: 0}
        self.hang_ups, self.refusals = 0, []

    def request(self, endpoint: str, status: int, steered: bool) -> None:
        self.requests.append((endpoint, status, steered))

    def begun(self, steered: bool) -> Any:
        def token() -> None:
            self.tokens[steered] += 1

        return SimpleNamespace(token=token)

    def prompt_tokens(self, number: int, steered: bool) -> None:
        self.prompts[steered] += number

    def hang_up(self) -> None:
        self.hang_ups += 1

    def refused(self, reason: str) -> None:
        self.refusals.append(reason)


class Gate:
    """Turns that a test gives: `let` so many forwards pass; all of them unless `shut`."""

    def __init__(self) -> None:
        self._turns = threading.Lock()
        self._allowed: threading.Semaphore | None = None
        self.threads: list[str] = []
        self.waiting = 0

    def shut(self) -> None:
        self._allowed = threading.Semaphore(0)

    def let(self, forwards: int) -> None:
        assert self._allowed is not None
        self._allowed.release(forwards)

    def __enter__(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.waiting += 1
        if self._allowed is not None and not self._allowed.acquire(timeout=20):
            raise TimeoutError("no turn was given")
        self.waiting -= 1
        self._turns.acquire()

    def __exit__(self, *_: object) -> None:
        self._turns.release()


class Served:
    """A service and its application; made within an event loop or outside of one."""

    def __init__(self, model: Any, tokenizer: Any, steering: Any, **options: Any) -> None:
        self.turns, self.metrics = Gate(), Counted()
        self.steering = steering
        self.service = SimpleNamespace(
            name="embedded", vectors=steering.vectors, steering=lambda: steering,
            loaded=lambda: (model, tokenizer), judge="embedded-evaluation",
            admission=Admission(32, 8), metrics=self.metrics, turns=self.turns, limits=Limits(),
            is_running=lambda request_id: request_id == "chatcmpl-1",
            check=lambda request: None if request is None else steering.check(request),
        )  # fmt: skip
        vars(self.service).update(options)
        self.app = FastAPI()
        self.app.include_router(emotion_routes(self.service))  # type: ignore[arg-type]
        install(self.app)

    @property
    def free(self) -> bool:
        """Whether nothing of a request is left."""
        return self.steering.requested.slots.held == self.service.admission.running == 0


class Comparing(Call):
    """A compare whose events are read while they come."""

    def __init__(self, body: Any) -> None:
        super().__init__(COMPARE, body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Those that have come, but for the end."""
        lines = self.answer.body.decode().split("\n\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    @property
    def texts(self) -> list[str]:
        """What each side has written."""
        texts = [""] * len(self.events[0]["emotions"])
        for event in self.events:
            if event["type"] == "text":
                texts[event["side"]] += event["text"]
        return texts

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_step(self, step: int) -> None:
        """Wait until the events of a step have come."""
        await self.until(lambda: any(event.get("step") == step for event in self.events))


def compared(served: Served, body: Any) -> Comparing:
    """A whole compare."""
    call = Comparing(body)
    asyncio.run(call.serve(served.app))
    return call


def asking(**fields: Any) -> dict[str, Any]:
    """A body of a compare of nothing, joy and fear, with some fields changed."""
    body = {"prompt": PROMPT, "emotions": [None, "joy", "fear"], "seed": 3, "max_tokens": 12}
    return body | fields
