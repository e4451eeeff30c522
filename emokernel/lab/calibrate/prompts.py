"""What a model is given to write behind when its steering is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emokernel.errors import EmokernelError
from emokernel.lab.extract.prompts import question
from emokernel.lab.extract.queries import Queries, pairs


@dataclass(frozen=True)
class Prompts:
    """(prefix, opening) of each text, see `emokernel.lab.measure.generation.Job`."""

    pairs: tuple[tuple[str, str], ...]
    special_tokens: bool

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str] | None = None, count: int = 40) -> Prompts:
        """``count`` of ``texts``, or of the package's own neutral ones unless given.

        A model with a chat template is asked them as questions, without an instruction; any other
        continues them as openings. The package's own are taken from the end of the order in which
        `extract` takes them from its beginning, so that the two meet only when it uses most of
        them. EmokernelError without texts.
        """
        chat = bool(getattr(tokenizer, "chat_template", None))
        if texts is None:
            shipped = Queries.shipped() if chat else Queries.openings()
            neutral = pairs(Queries(shipped.neutral), "any")
            texts = [query.text for query in reversed(neutral)]
        chosen = list(dict.fromkeys(texts))[:count]
        if not chosen:
            raise EmokernelError("calibration needs prompts: the list is empty")
        if chat:
            return cls(tuple((question(text, tokenizer), "") for text in chosen), False)
        return cls(tuple(("", text) for text in chosen), True)
