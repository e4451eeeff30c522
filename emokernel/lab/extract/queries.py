"""Queries: what a model is asked, once with an emotion and once without, to tell the two apart."""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import as_file, files
from os import PathLike
from types import MappingProxyType
from typing import Any

from emokernel.errors import EmokernelError, UnknownEmotionError
from emokernel.lab.extract.datasets import labelled_dataset, read_labelled
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
        return cls._packaged("queries.json")

    @classmethod
    @cache
    def openings(cls) -> Queries:
        """The project's own 120 neutral openings, for base models; they fit every emotion."""
        return cls._packaged("openings.json")

    @classmethod
    def read(cls, path: str | PathLike[str], **columns: Any) -> Queries:
        """Read a JSON, JSONL or TSV file; arguments and errors of `datasets.read_labelled`."""
        return cls.from_labelled(read_labelled(path, **columns))

    @classmethod
    def from_dataset(cls, source: Any, **columns: Any) -> Queries:
        """Read a Hugging Face dataset; arguments and errors of `datasets.labelled_dataset`."""
        return cls.from_labelled(labelled_dataset(source, **columns))

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

    def of(self, emotion: str) -> tuple[Query, ...]:
        """The queries of one emotion; UnknownEmotionError if it has none."""
        own = tuple(query for query in self.queries if query.emotion == emotion)
        if emotion is None or not own:
            raise UnknownEmotionError(emotion, self.emotions)
        return own

    def __iter__(self) -> Iterator[Query]:
        return iter(self.queries)

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def _packaged(cls, name: str) -> Queries:
        with as_file(files("emokernel.lab.extract") / name) as path:
            return cls.read(path)


def pairs(
    queries: Queries,
    emotion: str,
    limit: int | None = None,
    seed: int = 0,
    *,
    share_neutral: float | None = None,
) -> list[Query]:
    """The queries of an emotion's contrast: each is answered with the emotion and without.

    Its own queries and neutral ones are mixed, ``share_neutral`` (0 to 1) of them neutral for as
    long as there are both; the default is one half, and 1 for an emotion without own queries. 0
    takes its own alone, 1 neutral ones alone. The order depends on ``seed``; that of the neutral
    ones does not depend on the emotion, so that their neutral answers serve every emotion. A
    smaller ``limit`` (None: all) gives the beginning of the same list.

    Raises UnknownEmotionError for an emotion without own queries if a share of them was asked for,
    if there are no neutral ones, or if its name looks like a slip of the pen for one that has them.
    """
    if limit is not None and limit < 1:
        raise EmokernelError(f"limit is {limit}: an emotion needs at least one query")
    if share_neutral is not None and not 0 <= share_neutral <= 1:
        raise EmokernelError(f"share_neutral is {share_neutral}: give a number from 0 to 1")
    known = emotion in queries.emotions
    if share_neutral is None:
        slip = difflib.get_close_matches(emotion, queries.emotions, n=1, cutoff=0.8)
        if not known and (slip or not queries.neutral):
            raise UnknownEmotionError(emotion, queries.emotions)
        share_neutral = 0.5 if known else 1.0
    own = _shuffled(queries.of(emotion), f"{seed} {emotion}") if share_neutral < 1 else []
    neutral = _shuffled(queries.neutral, f"{seed}") if share_neutral > 0 else []
    if not own and not neutral:
        raise EmokernelError("share_neutral is 1, but there are no neutral queries: add some")
    mixed = _without_duplicates(_mixed(own, neutral, share_neutral))
    return mixed if limit is None else mixed[:limit]


def _shuffled(queries: Iterable[Query], seed: str) -> list[Query]:
    shuffled = list(queries)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _mixed(own: list[Query], neutral: list[Query], share: float) -> Iterator[Query]:
    """Both lists in their order, ``share`` of every beginning from ``neutral``; then the rest."""
    own, neutral = own[::-1], neutral[::-1]
    taken = of_neutral = 0
    while own or neutral:
        taken += 1
        if neutral and (not own or of_neutral + 0.5 <= share * taken):
            of_neutral += 1
            yield neutral.pop()
        else:
            yield own.pop()


def _without_duplicates(queries: Iterable[Query]) -> list[Query]:
    kept: dict[str, Query] = {}
    for query in queries:
        kept.setdefault(normalised(query.text), query)
    return list(kept.values())
