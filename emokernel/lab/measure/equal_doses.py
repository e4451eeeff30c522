"""How far steering moves a model, and the strengths that move it equally far.

Equal strength is no fair comparison between emotions, laws or layers; equal Kullback-Leibler
divergence from the unsteered model is (the dose of github.com/wassname/steering-lite).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from emokernel.affect.mixes import Emotion
from emokernel.errors import EmokernelError, SteeringError
from emokernel.lab.measure.encoding import MOST_LOGITS, Encoded, input_device
from emokernel.patch.decoder import evaluating
from emokernel.requests import Request
from emokernel.steering import Steering

# Rows of a batch, so many different requests at most.
MOST_REQUESTS = 512
# The first ladder of strengths; it grows by its own length until it spans the wanted divergences.
_STEP, _RUNGS = 2.0, 8
_LARGEST, _SMALLEST = 2.0**24, 2.0**-24


@torch.no_grad()
def divergences(
    model: PreTrainedModel,
    steering: Steering,
    texts: Encoded,
    requests: Sequence[Request],
    progress: Callable[[int], None] = lambda rows: None,
) -> Tensor:
    """``[requests]``: mean KL(steered || unsteered) in nats over the counted tokens of ``texts``.

    Both distributions are those of the next token behind each counted token, the texts being given
    (teacher forcing). Rows of different requests share batches. ``progress`` is told how many rows
    (texts x requests) were computed. EmokernelError if the texts have no token that counts.
    """
    if not texts.counted.any():
        raise EmokernelError(
            "there is no text to measure a divergence on: let the model write more, or give other"
            " openings"
        )
    texts = texts.to(input_device(model))
    ids, mask, counted = texts.ids, texts.mask, texts.counted
    with evaluating(model):
        with steering.requests([None] * len(ids), attention_mask=mask):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        unsteered = F.log_softmax(logits.float(), -1)
        rows = [(text, number) for number in range(len(requests)) for text in range(len(ids))]
        size = min(max(1, MOST_LOGITS // unsteered[0].numel()), MOST_REQUESTS)
        sums = torch.zeros(len(requests), dtype=torch.float64)
        for start in range(0, len(rows), size):
            of_text, of_request = map(list, zip(*rows[start : start + size], strict=True))
            chosen = [requests[number] for number in of_request]
            with steering.requests(chosen, attention_mask=mask[of_text]):
                logits = model(
                    input_ids=ids[of_text], attention_mask=mask[of_text], use_cache=False
                ).logits
            steered = F.log_softmax(logits.float(), -1)
            kl = F.kl_div(unsteered[of_text], steered, reduction="none", log_target=True).sum(-1)
            kl = (kl * counted[of_text]).sum(1).double().cpu()
            sums.index_add_(0, torch.tensor(of_request), kl)
            progress(len(of_text))
    return sums / counted.sum().item()


@dataclass(frozen=True)
class Ask:
    """Something that is to be dosed: an emotion or a point, under a law and a dose."""

    name: str
    emotion: Emotion = field(hash=False)
    law: str
    dose: str

    def at(self, strength: float) -> Request:
        """The request for it."""
        return Request(self.emotion, strength, self.law, self.dose)


def equal_doses(
    model: PreTrainedModel,
    steering: Steering,
    texts: Encoded,
    asks: Sequence[Ask],
    targets: Sequence[float],
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[Ask, dict[float, float]]:
    """For each of ``asks`` the strength of each divergence of ``targets`` (nats per token).

    The divergence is measured on a ladder of strengths, log-log linear between its rungs. Those
    that no strength reaches (preserve has a largest one) give way to the largest that is reached.
    SteeringError for vectors that move next to nothing at any strength, EmokernelError for a target
    that is no divergence above 0.
    """
    if not targets or not all(0 < target < math.inf for target in targets):
        raise EmokernelError(f"doses are nats per token above 0, got {list(targets)}")
    ladders = {ask: {} for ask in asks}
    rungs = [_STEP**n for n in range(-_RUNGS + 3, 3)]
    open_rungs = {ask: list(rungs) for ask in asks}
    while any(open_rungs.values()):
        wanted = [(ask, s) for ask, strengths in open_rungs.items() for s in strengths]
        requests = [ask.at(strength) for ask, strength in wanted]
        measured = divergences(model, steering, texts, requests, progress).tolist()
        for (ask, strength), divergence in zip(wanted, measured, strict=True):
            ladders[ask][strength] = divergence
        span = min(targets), max(targets)
        open_rungs = {ask: _more(ladder, *span) for ask, ladder in ladders.items()}
    return {ask: _read(ask, ladder, targets) for ask, ladder in ladders.items()}


def _more(ladder: Mapping[float, float], least: float, most: float) -> list[float]:
    """The rungs that are missing for the ladder to span the divergences; none if it does."""
    low, high = min(ladder), max(ladder)
    if ladder[low] > least and low > _SMALLEST:
        return [low / _STEP**n for n in range(1, 4)]
    rising = ladder[high] > 1.02 * ladder[high / _STEP] or ladder[high] < least
    if max(ladder.values()) < most and rising and high < _LARGEST:
        return [high * _STEP**n for n in range(1, 4)]
    return []


def _read(ask: Ask, ladder: Mapping[float, float], targets: Sequence[float]) -> dict[float, float]:
    # Rounding makes the smallest ones 0 or less, and texts that blow up none at all.
    usable = {s: d for s, d in sorted(ladder.items()) if 0 < d < math.inf}
    largest = max(usable.values(), default=0.0)
    if largest < min(targets) / 10:
        numbers = [value for value in ladder.values() if not math.isnan(value)]
        raise SteeringError(
            f"{ask.name!r} under law={ask.law!r}, dose={ask.dose!r} moves the model by"
            f" {max(numbers, default=math.nan):g} nats a token at most: its vectors are zero in the"
            " steered layers, far too short, or not finite"
        )
    rising: list[tuple[float, float]] = []
    for strength, divergence in usable.items():
        if divergence > (rising[-1][0] if rising else 0.0):
            rising.append((divergence, strength))
    logs = np.log(rising).T
    wanted = [target for target in targets if rising[0][0] <= target < largest]
    if len(wanted) < len(targets):
        wanted.append(largest)
    return {target: math.exp(np.interp(math.log(target), *logs)) for target in wanted}
