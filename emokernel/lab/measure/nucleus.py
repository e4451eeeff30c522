"""Which token follows: nucleus sampling in which every row has random numbers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emokernel.errors import EmokernelError

# What is said of logits from which no token can be chosen.
NO_TOKEN = (
    "the model gives NaN or infinite logits, from which no token can be chosen: load it in another"
    " dtype, such as bfloat16 or float32, or steer it less"
)
# Scores that are drawn from at once, fp32: as many as the caches of a processor hold.
_AT_ONCE = 1 << 19


@dataclass(frozen=True)
class Choice:
    """How one token is chosen: ``temperature`` 0 takes the likeliest, ``top_k`` 0 among all."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled; temperature 0 takes the likeliest token."""

    max_new_tokens: int = 64
    temperature: float = 0.8
    top_p: float = 0.9

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise EmokernelError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0 or not 0 < self.top_p <= 1:
            raise EmokernelError(
                "temperature must be at least 0 and top_p above 0 and at most 1, got"
                f" {self.temperature} and {self.top_p}"
            )


class Nucleus:
    """Chooses the token of each row by its random numbers, or its likeliest token.

    Nucleus sampling (Holtzman et al. 2020, arXiv 1904.09751): from the fewest likeliest tokens that
    have ``top_p`` of the probability together. A token of the whole distribution is drawn and, if
    it is none of those, drawn again; that is exact and needs no sorting. Under a temperature of 0
    it is the likeliest one.
    """

    DRAWS = 4

    def __init__(self, seeds: Sequence[Sequence[int]], sampling: Sampling) -> None:
        """``seeds``: non-negative integers for each row."""
        shape = sampling.max_new_tokens, self.DRAWS + 1
        rows = [np.random.default_rng(list(seed)).random(shape, np.float32) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(rows))
        self._sampling = sampling

    def choose(self, scores: Tensor, step: int, rows: Tensor | None = None) -> Tensor:
        """The tokens ``[n]`` of a step, counted from 0, by their ``scores`` ``[n, vocabulary]``.

        ``rows`` ``[n]``: which of the rows they are of, on the CPU; all of them unless given.
        EmokernelError if there is no likeliest token in a row: NaN, or an infinite score.
        """
        uniforms = self._uniforms[:, step] if rows is None else self._uniforms[rows, step]
        uniforms = uniforms.to(scores.device)
        # What follows passes over the scores several times.
        size = max(1, _AT_ONCE // scores.shape[1]) if scores.device.type == "cpu" else len(scores)
        parts = zip(scores.split(size), uniforms.split(size), strict=True)
        return torch.cat([self._chosen(*part) for part in parts])

    def _chosen(self, scores: Tensor, uniforms: Tensor) -> Tensor:
        if not scores.amax(-1).isfinite().all():  # NaN where a row has one
            raise EmokernelError(NO_TOKEN)
        if not self._sampling.temperature:
            return scores.argmax(-1)
        probabilities = (scores.float() / self._sampling.temperature).softmax(-1)
        return drawn(probabilities, uniforms, self._sampling.top_p)


def drawn(probabilities: Tensor, uniforms: Tensor, top_p: float | Tensor) -> Tensor:
    """Tokens ``[n]`` of ``probabilities`` ``[n, vocabulary]``.

    ``uniforms`` ``[n, DRAWS + 1]``: the random numbers of each row. ``top_p``: of all, or ``[n]``.
    """
    sums = probabilities.cumsum(-1)
    chosen = _at(sums, uniforms[:, 0])
    if isinstance(top_p, float | int) and top_p >= 1:
        return chosen
    open_rows = torch.arange(len(chosen), device=chosen.device)
    for draw in range(1, Nucleus.DRAWS + 1):
        open_rows = open_rows[_outside(probabilities, chosen, open_rows, top_p)]
        if not len(open_rows):
            break
        if draw < Nucleus.DRAWS:
            chosen[open_rows] = _at(sums[open_rows], uniforms[open_rows, draw])
        else:
            chosen[open_rows] = drawn_by_order(
                probabilities[open_rows], uniforms[open_rows, -1], _of(top_p, open_rows)
            )
    return chosen


def _outside(probabilities: Tensor, chosen: Tensor, rows: Tensor, top_p: float | Tensor) -> Tensor:
    """Which of ``rows`` have chosen a token outside of their nucleus, bool."""
    picked = probabilities[rows, chosen[rows]][:, None]
    top_p = _of(top_p, rows)
    outside = picked[:, 0] <= _SURE - top_p
    # Where all others together have less than top_p, the likelier ones have too.
    unsure = outside.nonzero().flatten()
    if len(unsure):
        among = probabilities[rows[unsure]]
        likelier = (among * (among > picked[unsure])).sum(-1)
        outside[unsure] = likelier >= _of(top_p, unsure)
    return outside


def drawn_by_order(
    probabilities: Tensor, uniforms: Tensor, top_p: float | Tensor, top_k: Tensor | None = None
) -> Tensor:
    """The same by one random number each ``[n]``: tensor operations alone, which sort.

    ``top_k`` ``[n]``: among so many likeliest tokens; 0 for all.
    """
    ordered, tokens = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    top_p = top_p[:, None] if isinstance(top_p, Tensor) else top_p
    nucleus = ordered * (before < top_p)
    if top_k is not None:
        rank = torch.arange(ordered.shape[1], device=ordered.device)
        nucleus = nucleus * ((rank < top_k[:, None]) | (top_k[:, None] == 0))
    return tokens.gather(1, _at(nucleus.cumsum(-1), uniforms)[:, None]).flatten()


# A little more than all of the probability, for what rounding makes of a sum.
_SURE = 1.001


def _of(top_p: float | Tensor, rows: Tensor) -> float | Tensor:
    return top_p[rows] if isinstance(top_p, Tensor) else top_p


def _at(sums: Tensor, shares: Tensor) -> Tensor:
    """The token at which each row of cumulative sums passes that share of its last one."""
    wanted = shares[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1).flatten()
