"""The samples of an extraction: which rows of the store belong to which emotion."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emokernel.errors import EmokernelError

# How many numbers of a chunk are held in fp64 at once.
_CHUNK = 2**22


@dataclass(frozen=True)
class Group:
    """The rows of one emotion and of its neutral counterpart, as numbers of texts in the store.

    ``paired``: ``rows[i]`` and ``neutral[i]`` belong together (one query, or one text in two
    contexts); else ``neutral`` is a set of its own, which emotions may share.
    """

    emotion: str
    rows: Sequence[int]
    neutral: Sequence[int]
    paired: bool

    def among(self, kept: Sequence[bool] | Mapping[int, bool]) -> Group:
        """The group without the rows that are not kept; a pair is kept or dropped as one."""
        if self.paired:
            pairs = [
                pair for pair in zip(self.rows, self.neutral, strict=True)
                if kept[pair[0]] and kept[pair[1]]
            ]  # fmt: skip
            return Group(self.emotion, [a for a, _ in pairs], [b for _, b in pairs], True)
        rows, neutral = ([row for row in each if kept[row]] for each in (self.rows, self.neutral))
        return Group(self.emotion, rows, neutral, False)


@dataclass(frozen=True)
class Rows:
    """The rows ``[layers, texts, d]`` of a store, with the weight of each text."""

    values: np.ndarray
    weights: np.ndarray

    @property
    def width(self) -> int:
        """d, the hidden size."""
        return self.values.shape[-1]

    def chunks(
        self, layer: int, rows: Sequence[int], minus: Sequence[int] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of a layer as fp64 ``[n, d]`` with their weights ``[n]``, a chunk at a time.

        With ``minus``, the differences ``rows[i] - minus[i]``, weighted like the former.
        """
        size = max(1, _CHUNK // self.width)
        for start in range(0, len(rows), size):
            part = list(rows[start : start + size])
            chunk = self.values[layer, part].astype(np.float64)
            if minus is not None:
                chunk -= self.values[layer, list(minus[start : start + size])]
            yield chunk, self.weights[part]


def usable(groups: Sequence[Group], weights: np.ndarray) -> list[Group]:
    """The groups without texts that have no token of their own.

    EmokernelError if that leaves an emotion, or what it is compared with, without a text.
    """
    kept = [group.among(weights > 0) for group in groups]
    for group in kept:
        if not group.rows:
            raise EmokernelError(
                f"no tokens to average over for {group.emotion!r}: give it some text"
            )
        if not group.neutral:
            raise EmokernelError(
                f"no tokens of neutral text to compare {group.emotion!r} with: give it some text"
            )
    return kept


def split(groups: Sequence[Group], share: float, seed: int) -> tuple[list[Group], list[Group]]:
    """(training groups, held-out groups): in each, ``share`` of the texts are held out.

    The two of a pair are held out together, and with them, where emotions share the neutral ones of
    their pairs, those of all emotions. A group of too few for that holds none out.
    """
    chooser = random.Random(seed)
    neutral_of = {
        own: other
        for group in groups if group.paired
        for own, other in zip(group.rows, group.neutral, strict=True)
    }  # fmt: skip
    sets = [
        [neutral_of.get(row, row) for row in rows]
        for rows in [group.rows for group in groups] + [group.neutral for group in groups]
    ]
    heldout: dict[int, bool] = {}
    for keys in map(dict.fromkeys, sets):
        undecided = [key for key in keys if key not in heldout]
        already = sum(heldout.get(key, False) for key in keys)
        missing = max(0, min(int(share * len(keys)) - already, len(undecided)))
        chosen = set(chooser.sample(range(len(undecided)), missing))
        heldout.update({key: number in chosen for number, key in enumerate(undecided)})
    heldout |= {own: heldout[other] for own, other in neutral_of.items()}
    training = {row: not out for row, out in heldout.items()}
    return [g.among(training) for g in groups], [g.among(heldout) for g in groups]
