"""What is written in a calibration, and who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emokernel.affect import Coordinates
from emokernel.errors import EmokernelError
from emokernel.lab.extract.prompts import question
from emokernel.lab.extract.queries import Queries, pairs
from emokernel.lab.measure.classifiers import LabelsOf, TextClassifier, places
from emokernel.lab.measure.sampling import Sampling


@dataclass(frozen=True)
class Prompts:
    """(prefix, opening) of each text, see `emokernel.lab.measure.generation.Job`.

    special_tokens: whether the tokenizer adds its own to them.
    """

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


@dataclass(frozen=True)
class Setting:
    """What is written and who reads it; the same for every dose.

    labels: {emotion: the judge's labels} where they are called otherwise. batch_size: texts that
    are written at once. seed: of all texts, steered or not, so that they differ by their dose
    alone.
    """

    model: Any
    tokenizer: Any
    judge: TextClassifier
    prompts: Prompts
    sampling: Sampling
    coordinates: Coordinates
    labels: LabelsOf
    batch_size: int = 240
    seed: int = 0

    def places(self) -> list[str]:
        """For each label of the judge, the emotion whose place on the circumplex it has.

        EmokernelError if the table knows none of them.
        """
        return places(self.judge, self.coordinates, self.labels)
