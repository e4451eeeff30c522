"""What both managers have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from transformers import GenerationConfig, PreTrainedModel
from transformers.cli.serving.utils import BaseGenerateManager

from emokernel.errors import EmokernelError
from emokernel.serve.engine.texts import Streamer
from emokernel.serve.engine.wishes import Wish, wish

# What a client is told of an error that may name anything.
FAILED = "the model could not go on; the log of the server says why"


class Manager(BaseGenerateManager):
    """Generates for the handlers as the `wish` of their context says."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        config = model.config.get_text_config()
        self.context: int | None = getattr(config, "max_position_embeddings", None)

    @abstractmethod
    def start(self) -> None:
        """Get ready to generate, once."""

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether requests can be answered."""

    @abstractmethod
    def _begin(
        self, ids: list[int], inputs: Any, config: GenerationConfig, streamer: Streamer, own: Wish
    ) -> None:
        """Begin to generate behind ``ids``; ``inputs``: all that the model is given."""

    @abstractmethod
    def _cancel(self, streamer: Streamer) -> None:
        """End what was begun for ``streamer``; harmless when that is over."""

    def generate_streaming(
        self,
        model: Any,
        processor: Any,
        inputs: Any,
        gen_config: GenerationConfig,
        request_id: str,
        response_parser: Any = None,
    ) -> tuple[Any, Any]:
        """(The queue of what is generated, its `Streamer`); EmokernelError if there is no room."""
        own, ids = wish.get(), _ids(inputs)
        own.read(len(ids))
        gen_config.max_new_tokens = self.room(len(ids), gen_config.max_new_tokens, own.limited)
        streamer = Streamer(processor, own, self._cancel, response_parser, _ends(gen_config))

        def whole() -> None:
            # Handlers take an answer of as many tokens as it may have for one that was cut off.
            own.whole, gen_config.max_new_tokens = True, None

        streamer.when_whole = whole
        self._begin(ids, inputs, gen_config, streamer, own)
        own.begun, own.cancel = True, streamer.cancel
        return streamer.queue, streamer

    async def generate_non_streaming(
        self,
        model: Any,
        processor: Any,
        inputs: Any,
        gen_config: GenerationConfig,
        request_id: str,
    ) -> tuple[str, int, list[int]]:
        """(The text, the number of tokens of the prompt, the tokens of the answer).

        Cancelled when its task is. EmokernelError if the model cannot go on.
        """
        _, streamer = self.generate_streaming(model, processor, inputs, gen_config, request_id)
        try:
            text = await streamer.text()
        finally:
            streamer.cancel()
        return text, len(_ids(inputs)), streamer.ids

    def room(self, prompt: int, wanted: int, limited: bool) -> int:
        """How many tokens an answer to a ``prompt`` of so many tokens has: ``wanted``, or fewer.

        EmokernelError if they do not fit the model; where nobody asked for that number
        (``limited``), as many as fit.
        """
        left = wanted if self.context is None else self.context - prompt
        if left < 1 or (limited and wanted > left):
            answer = f" and an answer of {wanted}" if left >= 1 else ""
            raise EmokernelError(
                f"a prompt of {prompt} tokens{answer} do not fit the {self.context} tokens that the"
                " model reads at a time: send less" + (", or a lower limit" if answer else "")
            )
        return min(wanted, left)


def _ids(inputs: Any) -> list[int]:
    """The tokens of the one prompt: a list, or a tensor ``[1, tokens]``."""
    ids = inputs["input_ids"]
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return ids[0] if ids and isinstance(ids[0], list) else ids


def _ends(config: GenerationConfig) -> frozenset[int]:
    """The tokens that end an answer."""
    ends = config.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or ())
