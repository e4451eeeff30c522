"""How far steering moves a model, and the strengths that move it equally far.

Equal strength is no fair comparison between emotions, laws or layers; equal Kullback-Leibler
divergence from the unsteered model is (the dose of github.com/wassname/steering-lite).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
# The strength that is tried first, and how many times as large the next one is at least.
_FIRST, _STEP = 0.5, 2.0
# From a rung to the next at most; a dose goes with the square of its strength, so 4096 times it.
_LEAP = 64.0
# How slowly a divergence rises with strength, beyond what was measured, at the least.
_FLATTEST = 0.5
# How far beyond what was measured, as the logarithm of a strength.
_FURTHEST = math.log(4)
# A model is not steered by vectors that move it by less, in nats per token.
_NOTHING = 0.005
_LARGEST, _SMALLEST = 2.0**24, 2.0**-24
# Whatever is measured, a ladder has an end.
_MOST_ROUNDS = 24


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
        kept, options = _kept(model, counted)
        counted = counted[:, kept]
        with steering.requests([None] * len(ids), attention_mask=mask):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **options).logits
        unsteered = F.log_softmax(logits.float(), -1)
        rows = [(text, number) for number in range(len(requests)) for text in range(len(ids))]
        size = min(max(1, MOST_LOGITS // unsteered[0].numel()), MOST_REQUESTS)
        sums = torch.zeros(len(requests), dtype=torch.float64)
        for start in range(0, len(rows), size):
            of_text, of_request = map(list, zip(*rows[start : start + size], strict=True))
            chosen = [requests[number] for number in of_request]
            with steering.requests(chosen, attention_mask=mask[of_text]):
                logits = model(
                    input_ids=ids[of_text], attention_mask=mask[of_text], use_cache=False, **options
                ).logits
            steered = F.log_softmax(logits.float(), -1)
            kl = F.kl_div(unsteered[of_text], steered, reduction="none", log_target=True).sum(-1)
            kl = (kl * counted[of_text]).sum(1).double().cpu()
            sums.index_add_(0, torch.tensor(of_request), kl)
            progress(len(of_text))
    return sums / counted.sum().item()


def _kept(model: PreTrainedModel, counted: Tensor) -> tuple[Tensor | slice, dict[str, Tensor]]:
    """The positions that count in any text, and how a model is told to give no other logits."""
    if "logits_to_keep" not in inspect.signature(type(model).forward).parameters:
        return slice(None), {}
    kept = counted.any(0).nonzero().flatten()
    return kept, {"logits_to_keep": kept}


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


@dataclass(frozen=True)
class Ladder:
    """``rungs``: {strength: divergence} as measured for ``ask``, some of them perhaps no number."""

    ask: Ask
    rungs: Mapping[float, float]

    def usable(self) -> dict[float, float]:
        """Those that rise, by strength. Rounding makes the smallest ones 0 or less, and texts that
        blow up none at all.
        """
        rising: dict[float, float] = {}
        for strength, divergence in sorted(self.rungs.items()):
            if max(rising.values(), default=0.0) < divergence < math.inf:
                rising[strength] = divergence
        return rising

    def spans(self, least: float, most: float) -> bool:
        """Whether divergences from least to most lie between rungs."""
        reached = self.usable().values()
        return min(reached, default=math.inf) <= least and most <= max(reached, default=0.0)

    def strength(self, divergence: float) -> float:
        """That of a divergence above 0; log-log linear between rungs.

        Below them it goes with the root of the divergence, beyond them as between the last two, but
        at least that fast, with its square at most, and not far: preserve has a largest divergence.
        """
        rungs = self.usable()
        strengths, divergences = (np.log(list(each)) for each in (rungs, rungs.values()))
        wanted = math.log(divergence)
        inside = float(np.interp(wanted, divergences, strengths))
        low, high = divergences[0] - wanted, wanted - divergences[-1]
        if low > 0:
            inside -= low / 2
        elif high > 0:
            rise = np.diff(divergences[-2:]) / np.diff(strengths[-2:])
            rise = min(max(rise.item() if len(rise) else 2.0, _FLATTEST), 2.0)
            inside += min(high / rise, _FURTHEST)
        return math.exp(inside)


def ladders(
    model: PreTrainedModel,
    steering: Steering,
    texts: Encoded,
    spans: Mapping[Ask, tuple[float, float]],
    progress: Callable[[int], None] = lambda rows: None,
    *,
    step: float = 2.0,
) -> dict[Ask, Ladder]:
    """For each ask a ladder of strengths that spans its (least, most) divergence.

    ``step``: how many times as large the next strength may be. Small divergences go with the square
    of the strength, so a few rungs will do. SteeringError for vectors that move next to nothing at
    any strength.
    """
    rungs: dict[Ask, dict[float, float]] = {ask: {} for ask in spans}
    wanted = [(ask, _FIRST) for ask in spans]
    for _ in range(_MOST_ROUNDS):
        if not wanted:
            break
        requests = [ask.at(strength) for ask, strength in wanted]
        measured = divergences(model, steering, texts, requests, progress).tolist()
        for (ask, strength), divergence in zip(wanted, measured, strict=True):
            rungs[ask][strength] = divergence
        wanted = [(ask, s) for ask, span in spans.items() for s in _more(rungs[ask], *span, step)]
    found = {ask: Ladder(ask, of) for ask, of in rungs.items()}
    for ask, ladder in found.items():
        if max(ladder.usable().values(), default=0.0) < min(spans[ask][0] / 10, _NOTHING):
            numbers = [value for value in ladder.rungs.values() if not math.isnan(value)]
            raise SteeringError(
                f"{ask.name!r} under law={ask.law!r}, dose={ask.dose!r} moves the model by"
                f" {max(numbers, default=math.nan):g} nats a token at most: its vectors are zero in"
                " the steered layers, far too short, or not finite"
            )
    return found


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
    EmokernelError for a target that is no divergence above 0, and what `ladders` raises.
    """
    if not targets or not all(0 < target < math.inf for target in targets):
        raise EmokernelError(f"doses are nats per token above 0, got {list(targets)}")
    spans = dict.fromkeys(asks, (min(targets), max(targets)))
    found = ladders(model, steering, texts, spans, progress)
    return {ask: _read(ladder, targets) for ask, ladder in found.items()}


def _more(rungs: Mapping[float, float], least: float, most: float, step: float) -> list[float]:
    """The rungs that are missing for these to span the divergences; none if they do.

    What is no number is too much; what is 0 or less by rounding is too little.
    """
    known = sorted((s, math.inf if math.isnan(d) else d) for s, d in rungs.items())
    below = [s for s, d in known if d <= least]
    above = [s for s, d in known if d >= most]
    (lowest, low), (highest, high) = known[0], known[-1]
    if not below and lowest > _SMALLEST:
        return [lowest / _leap(1.15 * math.sqrt(low / least))]
    half = [d for s, d in known if s <= highest / _STEP]
    saturated = high >= least and half and high <= 1.02 * half[-1]
    if not above and highest < _LARGEST and not saturated:
        return [highest * _leap(1.15 * math.sqrt(most / high) if high > 0 else _LEAP)]
    last = min(above, default=highest)
    inner = [(s, d) for s, d in known if max(below, default=lowest) <= s <= last]
    return [
        math.sqrt(one * other)
        for (one, less), (other, more) in pairwise(inner)
        if other > 1.05 * step * one and less * 1.02 < more
    ]


def _leap(factor: float) -> float:
    return min(max(factor, _STEP), _LEAP)


def _read(ladder: Ladder, targets: Sequence[float]) -> dict[float, float]:
    rising = ladder.usable()
    least, largest = min(rising.values()), max(rising.values())
    wanted = [target for target in targets if least <= target < largest]
    if len(wanted) < len(targets):
        wanted.append(largest)
    return {target: ladder.strength(target) for target in wanted}
