"""How far the strengths of an evaluation move the model, and the strengths of its equal doses."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from emokernel.calibrate.dose import Ask, equal_doses
from emokernel.evaluate.divergence import divergences
from emokernel.evaluate.encoding import Encoded
from emokernel.evaluate.plan import Plan
from emokernel.journal import Journal
from emokernel.steering import Request


def of_strengths(
    model: Any, plan: Plan, texts: Encoded, journal: Journal, progress: bool
) -> dict[tuple[str, str, float], float]:
    """KL of every emotion, law and strength, but those that the journal knows."""
    wanted = {
        f"divergence | {law} | {emotion} | {strength:g}": (emotion, law, strength)
        for emotion, law in plan.moved()
        for strength in plan.settings.strengths
    }
    missing = [key for key in wanted if journal.get(key) is None]
    if missing:
        requests = [
            Request(emotion, strength, law, plan.dose)
            for emotion, law, strength in map(wanted.get, missing)
        ]
        rows = len(requests) * len(texts.ids)
        with tqdm(total=rows, desc="doses of strengths", unit=" rows", disable=not progress) as bar:
            found = divergences(model, plan.steering, texts, requests, bar.update).tolist()
        journal.put(dict(zip(missing, found, strict=True)))
    return {of: journal.get(key) for key, of in wanted.items()}


def equal(
    model: Any, plan: Plan, texts: Encoded, journal: Journal, progress: bool
) -> dict[tuple[str, str], dict[float, float]]:
    """{(emotion, law): {dose: strength}} of the doses that are reached."""
    wanted = plan.settings.doses
    asks = {
        f"doses {list(wanted)} | {law} | {emotion}": Ask(emotion, emotion, law, plan.dose)
        for emotion, law in plan.moved()
    }
    missing = [key for key in asks if journal.get(key) is None]
    if wanted and missing:
        with tqdm(desc="equal doses", unit=" rows", disable=not progress) as bar:
            found = equal_doses(
                model, plan.steering, texts, [asks[key] for key in missing], wanted, bar.update
            )
        journal.put({key: [[*pair] for pair in found[asks[key]].items()] for key in missing})
    return {
        (ask.name, ask.law): {dose: s for dose, s in journal.get(key) if dose in wanted}
        for key, ask in asks.items()
        if wanted
    }
