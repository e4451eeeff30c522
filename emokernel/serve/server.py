"""`transformers serve` with a patched model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers.cli.serve import Serve

from emokernel.errors import EmokernelError
from emokernel.replaced import Around
from emokernel.serve.fields import listed
from emokernel.serve.front.refusals import refusal
from emokernel.serve.middleware import EmotionFields, asked_for
from emokernel.steering import Steering, patch, steering_of
from emokernel.vectors import EmotionVectors


class SteeredServe(Serve):
    """transformers' server, which does not listen before `run`.

    What it is made of is extended on its instances: the model is patched whenever it is loaded, and
    what generates for a request does so under the emotion of its body.
    """

    def __init__(
        self, model: str, vectors: EmotionVectors, slots: int, name: str, **options: Any
    ) -> None:
        """``name``: what clients may call ``model``; ``options``: those of `Serve`.

        EmokernelError if the vectors do not fit the model.
        """
        super().__init__(model, **options, non_blocking=True)
        manager, self._vectors, self._slots, self._name = self._model_manager, vectors, slots, name
        for loaded in manager.loaded_models.values():
            self._patch(loaded.model)
        Around(manager, "_load_model", self._load_model).install()
        Around(manager, "shutdown", self._shutdown).install()
        Around(manager, "get_gen_models", self._list_models).install()
        Around(self._generation_state, "get_manager", self._get_manager).install()
        app = self.server.config.app
        # The innermost: what it refuses has the headers that the others add.
        from starlette.middleware import Middleware

        app.user_middleware.append(Middleware(EmotionFields, self.steering, (name, model)))
        app.add_exception_handler(EmokernelError, lambda _, error: refusal(error))
        app.add_api_route("/v1/emotions", self._list_emotions, methods=["GET"])

    def start_server(self) -> None:
        """Not yet: `Serve` calls this when its parts are made."""

    def run(self) -> None:
        """Listen until the process is stopped."""
        self.server.run()

    def steering(self) -> Steering:
        """The handle of the model, which is loaded again if it was unloaded."""
        return steering_of(self._chat_handler._resolve_model({})[1])

    def _patch(self, model: Any) -> None:
        patch(model, self._vectors, slots=self._slots)

    def _load_model(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        self._patch(model)
        return model

    def _shutdown(self, original: Callable) -> None:
        """Models are unloaded: what batches for one must not go on with it."""
        self._generation_state.shutdown()
        original()

    def _get_manager(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        generates = original(*args, **kwargs)
        if not any(isinstance(method, Around) for method in vars(generates).values()):
            if hasattr(generates, "async_submit"):
                Around(generates, "submit", self._submit).install()
                Around(generates, "async_submit", self._submit).install()
            else:
                Around(generates, "init_cb", self._init_cb(generates)).install()
        return generates

    def _submit(self, original: Callable, work: Callable, *args: Any, **kwargs: Any) -> Any:
        """Work for the thread that generates, which the caller's context does not reach.

        Without an emotion nothing is wanted, whatever block that thread was started in.
        """
        request, steering = asked_for.get(), self.steering()

        def steered(*args: Any, **kwargs: Any) -> Any:
            with steering.requests([request]):
                return work(*args, **kwargs)

        return original(steered, *args, **kwargs)

    @staticmethod
    def _init_cb(generates: Any) -> Callable:
        def begin(original: Callable, *args: Any, **kwargs: Any) -> None:
            begun = generates._cb
            original(*args, **kwargs)
            if generates._cb is not begun:
                Around(generates._cb, "add_request", _add_request).install()

        return begin

    def _list_models(self, _: Callable) -> list[dict[str, Any]]:
        """The one that is served; transformers lists what the cache of the Hub holds."""
        made_by = {"object": "model", "owned_by": "emokernel", "created": int(time.time())}
        return [{"id": self._name, **made_by}]

    def _list_emotions(self) -> dict[str, Any]:
        return listed(self._vectors.names)


def _add_request(original: Callable, *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs, emotion=asked_for.get())
