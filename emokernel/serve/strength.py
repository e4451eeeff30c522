"""How far a request may drive the residual stream, decided before it runs.

Requests share a batch. A row that overflows gives NaN behind it, and attention that masks the rows
of other requests out multiplies their NaN by zero, which is NaN: one request too strong would fail
all that run with it.
"""

from __future__ import annotations

import torch

from emokernel.errors import SteeringError
from emokernel.reference import Law
from emokernel.requests import Request
from emokernel.steering import Steering

# Of the largest number of a dtype; its root for the wide ones, since norms square. What is left is
# for the activations themselves, of which the largest known are in the thousands.
_SHARE, _NATURAL = 0.25, 1e4


class Strengths:
    """Which requests are safe beside others, for one patched model."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        tensor, profile = steering.requested.resolve.mixer.basis.tensor, None
        lengths = tensor.norm(dim=-1)
        self._lengths = lengths
        largest = min(torch.finfo(each.state.dtype).max for each in steering.placed)
        self._most = _SHARE * (largest if largest < 1e6 else largest**0.5)

    def check(self, request: Request) -> None:
        """What `Steering.check` raises, and SteeringError for a strength that might overflow."""
