"""Queries: what a model is asked, once with an emotion and once without, to tell the two apart."""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.lab.extract.datasets import read_labelled
from emokernel.lab.extract.labelled_texts import LabelledTexts, normalised


@dataclass(frozen=True)
class Query:
    """A question or remark to the model; for base models an opening, which the model continues.

    ``emotion`` is the one that its situation calls for; None is neutral and fits every emotion.
    """

    text: str
    emotion: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise EmokernelError("a query needs text: it is empty")


@dataclass(frozen=True)
class Queries:
    """Queries of several emotions and neutral ones; immutable.

    ``provenance`` says where they come from: name, licence, sha256, duplicates that were dropped.
    """

    queries: tuple[Query, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", tuple(self.queries))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        if not self.queries:
            raise EmokernelError("no queries given: an extraction needs some")

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
        return cls.from_labelled(read_labelled(path, **columns))

    @classmethod
    def from_labelled(cls, texts: LabelledTexts) -> Queries:
        """The texts of a file or dataset as queries, with its provenance."""
        queries = (Query(text, emotion) for emotion, text in texts.rows)
        return cls(tuple(queries), texts.provenance)

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions with queries of their own, in order."""
        return tuple(dict.fromkeys(q.emotion for q in self.queries if q.emotion is not None))

    @property
    def neutral(self) -> tuple[Query, ...]:
        """The queries that fit every emotion."""
        return tuple(query for query in self.queries if query.emotion is None)

    def __iter__(self) -> Iterator[Query]:
        return iter(self.queries)

    def __len__(self) -> int:
        return len(self.queries)


def pairs(queries: Queries, emotion: str, limit: int | None = None, seed: int = 0) -> list[Query]:
    """The queries of an emotion's contrast: each is answered with the emotion and without.

    Neutral ones and its own by turns for as long as there are both; neutral ones alone for an
    emotion without own queries. The order depends on ``seed``; that of the neutral ones does not
    depend on the emotion, so that their neutral answers serve every emotion. A smaller ``limit``
    (None: all) gives the beginning of the same list.

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
    mixed: dict[str, Query] = {}
    for query in chain.from_iterable(zip_longest(neutral, own)):
        if query is not None:
            mixed.setdefault(normalised(query.text), query)
    return list(mixed.values())[:limit]
