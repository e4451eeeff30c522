"""What the routes of a server are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from emokernel.requests import Request
from emokernel.serve.engine.manager import Manager
from emokernel.serve.engine.turns import Turns
from emokernel.serve.front.admission import Admission
from emokernel.serve.front.limits import Limits
from emokernel.serve.metrics import Metrics
from emokernel.serve.strength import check_strength
from emokernel.steering import Steering, steering_of
from emokernel.vectors import EmotionVectors


@dataclass(frozen=True)
class Service:
    """One patched model that is served.

    ``name``: what clients call it. ``model`` and ``processor``: its tokenizer, or what turns images
    into tokens too. ``judge``: the name of the classifier that reads texts. ``manager`` generates,
    ``turns`` are taken for each forward.
    """

    name: str
    model: Any
    processor: Any
    vectors: EmotionVectors
    judge: str
    manager: Manager
    turns: Turns
    limits: Limits
    admission: Admission
    metrics: Metrics
    slots: int
    # Whether the model takes pictures.
    sees: bool = False
    # The ids of the requests that generate, of all endpoints but the one that can be changed.
    running: set[str] = field(default_factory=set)

    def is_running(self, request_id: str) -> bool:
        """Whether this is the id of a request that generates."""
        return request_id in self.running

    def steering(self) -> Steering:
        """The handle of the model."""
        return steering_of(self.model)

    def loaded(self) -> tuple[Any, Any]:
        """(The model, its tokenizer)."""
        return self.model, getattr(self.processor, "tokenizer", self.processor)

    def check(self, request: Request | None) -> None:
        """EmokernelError for a request that cannot be steered, or not beside others."""
        if request is not None:
            check_strength(self.steering(), request)
