"""The loop that learns vectors, for a loss of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from emokernel.errors import SteeringError
from emokernel.steering import Steering
from emokernel.vectors import EmotionVectors

# Adam's memory is short, since there are few steps: about 5 of them, and 50 for the squares.
_BETAS = (0.8, 0.98)
_WARM_UP = 4


def learn_vectors(
    steering: Steering,
    emotions: str | Iterable[str],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    rate: float = 0.05,
    keep_norms: bool = True,
    made_from: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> EmotionVectors:
    """Vectors of ``emotions`` for which ``loss(step)``, a scalar of the patched model, is smaller.

    The model is frozen meanwhile; the loss asks for what it needs with `Steering.requests`. Adam
    takes ``steps`` steps with a rate that rises for 4 steps and falls to 0; ``rate`` is in units of
    the root mean square of each vector at the start. With ``keep_norms`` only directions are
    learned. ``made_from`` goes into the provenance, with what ``loss.made_from`` says of itself.

    SteeringError for a loss that is not finite or has no gradient; what was learned is lost then.
    """
    if steps < 1 or not rate > 0:
        raise SteeringError(f"steps and rate need to be positive, got {steps} and {rate}")
    with steering.learning(emotions) as learned:
        optimiser = torch.optim.Adam([learned.parameter], lr=rate, betas=_BETAS)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / _WARM_UP) * (1 - step / steps)
        )
        with tqdm(range(steps), desc="learning", unit=" steps", disable=not progress) as bar:
            for step in bar:
                value = _checked(loss(step), step)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                schedule.step()
                if keep_norms:
                    learned.project()
                bar.set_postfix(loss=f"{value.item():.3f}")
        about = {
            "steps": steps,
            "rate": rate,
            "keep_norms": keep_norms,
            **getattr(loss, "made_from", {}),
            **(made_from or {}),
        }
        return learned.vectors(about)


def _checked(value: Tensor, step: int) -> Tensor:
    if not value.requires_grad:
        raise SteeringError(
            "the loss does not depend on the vectors that are learned: ask for their emotions with"
            " steering.requests(...) or set(...), and call the model outside of torch.no_grad()"
        )
    if value.numel() != 1 or not bool(value.isfinite().all()):
        raise SteeringError(f"the loss of step {step} is not one finite number: {value}")
    return value
