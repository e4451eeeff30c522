"""Requests of equal dose: equal divergence from the unsteered model, nats per token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from emokernel.errors import SteeringError
from emokernel.lab.measure.divergence import divergences
from emokernel.lab.measure.encoding import Encoded, encoded
from emokernel.lab.measure.equal_doses import Ask, equal_doses
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.measure.sampling import Sampling
from emokernel.requests import Request
from emokernel.steering import Steering

# Unsteered ones, behind as many openings, that a dose is measured on.
_TEXTS = 24
# Strengths around the one that a coarse ladder gives, between which it is looked for again.
_AROUND = np.geomspace(0.75, 1.3, 7)


def requests_at_dose(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steering: Steering,
    emotions: Iterable[str],
    openings: Sequence[str],
    dose: float,
    *,
    sampling: Sampling | None = None,
) -> dict[str, Request]:
    """For each emotion the request that diverges by ``dose``, under the law chosen at `patch`.

    Measured over texts that the model writes unsteered behind the first 24 ``openings``.
    SteeringError if no strength reaches the dose, EmokernelError for a dose that is not above 0.
    """
    texts = unsteered(model, tokenizer, steering, openings, sampling or Sampling(24))
    return at_dose(model, steering, texts, emotions, dose)


def unsteered(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steering: Steering,
    openings: Sequence[str],
    sampling: Sampling,
) -> Encoded:
    """Texts of the unsteered model to measure a dose on."""
    jobs = [Job("unsteered", "unsteered", opening) for opening in openings[:_TEXTS]]
    batches = write(model, tokenizer, steering, jobs, 0, sampling=sampling)
    pairs = [written.pair for batch in batches for written in batch]
    return encoded(tokenizer, [pair for pair in pairs if pair[1].strip()])


def at_dose(
    model: PreTrainedModel, steering: Steering, texts: Encoded, emotions: Iterable[str], dose: float
) -> dict[str, Request]:
    """As `requests_at_dose`, over ``texts``.

    Between the rungs of a ladder, and again between finer ones around what that gives.
    """
    chosen = steering.defaults
    asks = [Ask(name, name, chosen.law, chosen.dose) for name in emotions]
    doses = equal_doses(model, steering, texts, asks, [dose])
    for ask in asks:
        if dose not in doses[ask]:
            raise SteeringError(
                f"no strength of {ask.name!r} under law={ask.law!r} diverges by {dose} nats per"
                f" token, {max(doses[ask]):.2f} at most: ask for a smaller dose"
            )
    requests = {}
    for ask in asks:
        rungs = doses[ask][dose] * _AROUND
        made = divergences(model, steering, texts, [ask.at(rung) for rung in rungs])
        requests[ask.name] = ask.at(_strength(ask, dose, made.numpy(), rungs))
    return requests


def _strength(ask: Ask, dose: float, divergences: np.ndarray, rungs: np.ndarray) -> float:
    """The strength of ``dose``, log-log linear between rungs; SteeringError if they have none."""
    sound = np.isfinite(divergences) & (divergences > 0)
    if not sound.any():
        raise SteeringError(
            f"{ask.name!r} diverges by {list(divergences)} nats per token around the strength for"
            f" {dose}: ask for a larger dose, or load the model in a wider dtype"
        )
    logs = np.maximum.accumulate(np.log(divergences[sound]))
    return math.exp(np.interp(math.log(dose), logs, np.log(rungs[sound])))
