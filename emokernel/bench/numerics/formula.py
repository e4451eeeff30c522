"""A steering formula as its project publishes it, what it is given, and the laws it may aim at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# What a formula aims at, of h and v = weight * e (t = h + v):
ADD = "add"  # t
PRESERVE = "preserve"  # t * |h| / |t|
SHRINK = "shrink"  # as PRESERVE where |t| > |h|, else t
BATCH = "batch"  # as PRESERVE for all rows of a batch of which |t| > |h| in one, else t
RELATIVE = "relative"  # h + weight * |h| * e / |e|
ROTATE = "rotate"  # h turned towards e by the share ``weight`` of their angle
LAWS = (ADD, PRESERVE, SHRINK, BATCH, RELATIVE, ROTATE)
# Those whose weight counts in norms or angles of the row; those that keep norms; those that keep
# them of some rows only.
BY_ROW = (RELATIVE, ROTATE)
KEEPS_NORM = (PRESERVE, SHRINK, BATCH, ROTATE)
SOMETIMES = (SHRINK, BATCH)

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES)


@dataclass(frozen=True)
class Given:
    """What a formula is given.

    x, residual: ``[rows, d]``, the branch's output and the stream it is added to, in the stream's
    dtype. vector: ``[d]`` fp32, as its file has it. weight: what it is multiplied by. on:
    ``[rows]`` bool, the rows that are to be steered, or None for all of them.
    """

    x: Tensor
    residual: Tensor
    vector: Tensor
    weight: float
    on: Tensor | None = None

    @property
    def h(self) -> Tensor:
        """The rows as the unsteered model holds them: the sum, rounded."""
        return self.x + self.residual

    @property
    def dtype(self) -> torch.dtype:
        """Of the stream."""
        return self.x.dtype

    def mask(self) -> Tensor:
        """``[rows, 1]`` in the stream's dtype: 1 where a row is to be steered, else 0."""
        on = torch.ones(len(self.x), dtype=torch.bool) if self.on is None else self.on
        return on[:, None].to(self.x)

    def only(self, steered: Callable[[Given], Tensor], otherwise: Tensor) -> Tensor:
        """What ``steered`` makes of the chosen rows alone, and ``otherwise`` in the others."""
        if self.on is None:
            return steered(self)
        out = otherwise.clone()
        out[self.on] = steered(
            replace(self, x=self.x[self.on], residual=self.residual[self.on], on=None)
        )
        return out


@dataclass(frozen=True)
class Formula:
    """How a project computes steered rows ``[rows, d]`` from what it is `Given`.

    law: what it aims at. source: project, version and place. on_branch: it changes a summand before
    the model adds the two up, as in vLLM, so that it is judged by the unrounded sum; the others get
    the rounded rows and are judged by these. masks: it can leave rows of a batch alone.
    """

    name: str
    law: str
    source: str
    apply: Callable[[Given], Tensor]
    on_branch: bool = False
    masks: bool = False
    dtypes: tuple[torch.dtype, ...] = DTYPES


def truth(law: str, h: Tensor, vector: Tensor, weight: float) -> Tensor:
    """The law in fp64, of h ``[rows, d]`` fp64 and vector ``[d]``; NaN where it means nothing."""
    e = vector.double()
    norm = h.norm(dim=-1, keepdim=True)
    if law == RELATIVE:
        return h + weight * norm * (e / e.norm())
    if law == ROTATE:
        unit = e / e.norm()
        angle = ((h @ unit)[:, None] / norm).clamp(-1, 1).arccos()
        kept, turned = ((share * angle).sin() / angle.sin() for share in (1 - weight, weight))
        return kept * h + turned * norm * unit
    t = h + weight * e
    factor = norm / t.norm(dim=-1, keepdim=True)
    if law == PRESERVE:
        return t * factor
    if law == SHRINK:
        return t * factor.clamp(max=1)
    return t * factor if law == BATCH and bool((factor < 1).any()) else t
