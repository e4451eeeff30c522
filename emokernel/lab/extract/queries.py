"""Queries: what a model is asked, once with an emotion and once without, to tell the two apart."""

from __future__ import annotations

import difflib
import random
from functools import cache
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.lab.extract.datasets import read_labelled
from emokernel.lab.extract.labelled_texts import LabelledText, LabelledTexts, normalised


class Queries(LabelledTexts):
    """Questions or remarks to the model; for base models openings, which the model continues.

    The emotion of each is the one that its situation calls for.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rows or not all(query.text.strip() for query in self):
            raise EmokernelError("an extraction needs queries, and each of them text: give some")

    @classmethod
    @cache
    def shipped(cls) -> Queries:
        """The project's own set: 20 queries for each of 35 emotions, 120 neutral ones."""
        return cls.read(Path(__file__).with_name("queries.json"))

    @classmethod
    @cache
    def openings(cls) -> Queries:
        """The project's own 120 neutral openings, for base models; they fit every emotion."""
        return cls.read(Path(__file__).with_name("openings.json"))

    @classmethod
    def read(cls, path: str | PathLike[str], **columns: Any) -> Queries:
        """Read a JSON, JSONL or TSV file; arguments and errors of `datasets.read_labelled`."""
        texts = read_labelled(path, **columns)
        return cls(texts.rows, texts.provenance)


def pairs(
    queries: Queries, emotion: str, limit: int | None = None, seed: int = 0
) -> list[LabelledText]:
    """The queries of an emotion's contrast: each is answered with the emotion and without.

    Neutral ones and its own by turns for as long as there are both, in an order of ``seed``
    (docs/queries.md). A smaller ``limit`` (None: all) gives the beginning of the same list.

    Raises UnknownEmotionError for an emotion without own queries if there are no neutral ones, or
    if its name looks like a slip of the pen for one that has them.
    """
    if limit is not None and limit < 1:
        raise EmokernelError(f"limit is {limit}: an emotion needs at least one query")
    own = [query for query in queries if query.emotion == emotion]
    slip = difflib.get_close_matches(emotion, queries.emotions, n=1, cutoff=0.8)
    if not own and (slip or not queries.neutral):
        raise UnknownEmotionError(emotion, queries.emotions)
    random.Random(f"{seed} {emotion}").shuffle(own)
    neutral = list(queries.neutral)
    random.Random(f"{seed}").shuffle(neutral)
    mixed: dict[str, LabelledText] = {}
    for query in chain.from_iterable(zip_longest(neutral, own)):
        if query is not None:
            mixed.setdefault(normalised(query.text), query)
    return list(mixed.values())[:limit]
