"""How far a request may drive the residual stream, decided before it runs.

Requests share a batch. A row that overflows gives NaN behind it, and attention that masks the rows
of other requests out multiplies their NaN by zero, which is NaN: one request too strong would fail
all that run with it.
"""

from __future__ import annotations

import torch

from emokernel.errors import SteeringError
from emokernel.requests import Request
from emokernel.steering import Steering

# The largest norm of a row that is known of a model that nobody steers is in the thousands.
_NATURAL = 1e4


def check_strength(steering: Steering, request: Request) -> None:
    """What `Steering.check` raises, and SteeringError for a strength that might overflow.

    A quarter of what the dtype of the residual stream holds is left to the steering; of a dtype
    with the range of fp32 the root, since norms square.
    """
    largest = min(torch.finfo(each.state.dtype).max for each in steering.placed)
    most = max(largest / 4 if largest < 1e6 else largest**0.5 / 4, 2 * _NATURAL)
    if not steering.reach(request, _NATURAL) <= most:
        raise SteeringError(
            "strength and weights are so large that the model would overflow, which fails all that"
            " runs beside it: ask for less, or law 'preserve'"
        )
