"""How far the strengths of an evaluation move the model, and the strengths of its equal doses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from emokernel.errors import SteeringError
from emokernel.lab.evaluate.plan import Plan
from emokernel.lab.measure.encoding import encoded
from emokernel.lab.measure.equal_doses import Ask, divergences, equal_doses
from emokernel.lab.measure.journal import Journal
from emokernel.requests import Request

# The strength for a dose that was asked for, and the divergence that it really makes.
Dose = tuple[float, float]


class Doses:
    """Divergences over the longest of ``pairs`` (context, unsteered answer), kept in the journal.

    Other texts would give others, so the journal keeps them under a digest of the texts.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        plan: Plan,
        pairs: Sequence[tuple[str, str]],
        journal: Journal,
        *,
        progress: bool,
    ) -> None:
        # The longest texts, since most of the tokens are in them.
        chosen = sorted(pairs, key=lambda pair: -len(pair[1]))[: plan.settings.dose_texts]
        self._texts = encoded(tokenizer, chosen, special_tokens=plan.prompting.special_tokens)
        self._digest = hashlib.sha256(repr(chosen).encode()).hexdigest()[:12]
        self._model, self._plan, self._journal = model, plan, journal
        self._progress = progress

    def of_strengths(self) -> dict[tuple[str, str, float], float]:
        """{(emotion, law, strength): nats per token}; NaN if nothing is read again."""
        wanted = {
            f"divergence {self._digest} | {law} | {emotion} | {strength:.9g}": (
                emotion, law, strength,
            )
            for emotion, law in self._plan.moved
            for strength in self._plan.strengths_of(emotion)
        }  # fmt: skip
        if not self._plan.settings.reread:
            return dict.fromkeys(wanted.values(), math.nan)
        missing = [key for key in wanted if self._journal.get(key) is None]
        if missing:
            requests = [
                Request(emotion, strength, law, self._plan.dose)
                for emotion, law, strength in map(wanted.get, missing)
            ]
            measured = self._measured(requests, "doses of strengths")
            self._journal.put(dict(zip(missing, measured, strict=True)))
        return {asked: self._journal.get(key) for key, asked in wanted.items()}

    def equal(self) -> dict[tuple[str, str], dict[float, Dose]]:
        """{(emotion, law): {dose: the strength for it}} of the doses that are reached."""
        wanted = self._plan.settings.doses
        asks = {
            f"doses {self._digest} {list(wanted)} | {law} | {emotion}": Ask(
                emotion, emotion, law, self._plan.dose
            )
            for emotion, law in self._plan.dosed
            if wanted
        }
        missing = {key: ask for key, ask in asks.items() if self._journal.get(key) is None}
        if missing:
            found: dict[Ask, list[tuple[float, ...]]] = {ask: [] for ask in missing.values()}
            for ask, *reached in self._found(list(found)):
                found[ask].append(reached)
            self._journal.put({key: found[ask] for key, ask in missing.items()})
        return {
            (ask.name, ask.law): {
                dose: (strength, made) for dose, strength, made in self._journal.get(key)
            }
            for key, ask in asks.items()
        }

    def _found(self, asks: Sequence[Ask]) -> list[tuple[Ask, float, float, float]]:
        """(ask, dose, strength, divergence) of the doses that are reached: strengths by
        interpolation, corrected once by what they make; small doses go with their square.
        """
        wanted = self._plan.settings.doses
        with tqdm(desc="equal doses", unit=" rows", disable=not self._progress) as bar:
            strengths = equal_doses(
                self._model, self._plan.steering, self._texts, asks, wanted, bar.update
            )
        rows = [
            (ask, dose, strength)
            for ask, by_dose in strengths.items()
            for dose, strength in by_dose.items()
            if dose in wanted
        ]
        made = self._measured([ask.at(s) for ask, _, s in rows], "equal doses, checked")
        rows = [
            (ask, dose, strength * math.sqrt(dose / _near(divergence, dose, ask)))
            for (ask, dose, strength), divergence in zip(rows, made, strict=True)
        ]
        made = self._measured([ask.at(s) for ask, _, s in rows], "equal doses, corrected")
        return [(*row, divergence) for row, divergence in zip(rows, made, strict=True)]

    def _measured(self, requests: Sequence[Request], title: str) -> list[float]:
        if not requests:
            return []
        rows = len(requests) * len(self._texts.ids)
        with tqdm(total=rows, desc=title, unit=" rows", disable=not self._progress) as bar:
            return divergences(
                self._model, self._plan.steering, self._texts, requests, bar.update
            ).tolist()


def _near(divergence: float, dose: float, ask: Ask) -> float:
    """The divergence, if it is of the order of the dose that was interpolated; SteeringError."""
    if not dose / 10 < divergence < dose * 10:
        raise SteeringError(
            f"the strength of {ask.name!r} under law={ask.law!r} for {dose:g} nats per token makes"
            f" {divergence:g} when it is measured again: evaluate in a wider dtype, or without"
            " --doses"
        )
    return divergence
