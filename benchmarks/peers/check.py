"""Does a peer do what it says? Its logits against those of a plain hook, in its own environment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from client import Died, Failed, Refused, Worker
from shapes import Case, Mix, Model, prompts

TOKENS = 12
WEIGHT = 1.0  # stronger than what is timed: then preserve differs from add in the logits, too
# Of what steering changes in the logits: the least cosine, and how much longer or shorter it may
# be than what the hook changes. The last is for engines that round weights, keys or values.
CLOSE = {"float32": (0.99995, 0.005), "bfloat16": (0.98, 0.1), "float16": (0.99, 0.05)}
ROUNDED = (0.98, 0.1)
# Of the largest logit: what rounding alone may change. Norms that are fused round elsewhere.
ROUNDING = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


@dataclass
class Probe:
    """What was seen of one batch; ``fault`` says what the peer did instead, if it did."""

    cosine: float | None = None
    lengths: list[float] = field(default_factory=list)  # of each row, in lengths of the hook's
    largest: float | None = None  # difference to the hook's logits
    fault: str | None = None


@dataclass
class Check:
    """A peer under a law: one sequence, a batch of three that asks for the same, three mixes."""

    peer: str
    model: str
    law: str
    about: dict[str, Any]  # what it says it is, with versions
    one: Probe
    batch: Probe
    rows: Probe
    idle: dict[str, Any]
    reference_difference: float | None = None

    def refusal(self, case: Case) -> str | None:
        """Why the peer is not timed in a case, None if it is."""
        if self.one.fault:
            return self.one.fault
        if case.batch > 1 and self.batch.fault:
            return self.batch.fault
        return None if case.alike else self.rows.fault

    def fields(self) -> dict[str, Any]:
        """As a row of results."""
        return {"row": "check", **asdict(self)}


class Checker:
    """Compares peers with plain hooks; ``reference`` runs those on the Hugging Face model."""

    def __init__(self, reference: Worker, model: Model, dtype: str) -> None:
        self._reference, self._model, self._dtype = reference, model, dtype

    def __call__(self, worker: Worker, law: str, about: dict[str, Any]) -> Check:
        """Checks a worker that has been loaded under ``law`` and said ``about`` itself."""
        exact = about.get("exact", True)
        joy, sadness = ({name: WEIGHT} for name in self._model.emotions[:2])
        check = Check(worker.name, self._model.name, law, about, Probe(), Probe(), Probe(), idle={})
        if exact:
            check.one.fault, check.reference_difference = self._another_model(worker)
        if not check.one.fault:
            check.one = self._probe(worker, [joy], exact)
        if not check.one.fault:
            check.one.fault, check.idle = self._idle(worker)
        if not check.one.fault:
            check.batch = self._probe(worker, [joy] * 3, exact)
            check.rows = (
                self._probe(worker, [joy, None, sadness], exact)
                if about["per_row"]
                else Probe(fault="one vector for the whole batch")
            )
        return check

    def _probe(self, worker: Worker, rows: list[Mix | None], exact: bool) -> Probe:
        try:
            return self._compared(worker, rows, exact)
        except Died:
            raise
        except Refused as reason:
            return Probe(fault=str(reason))
        except Failed as reason:
            size = f"a batch of {len(rows)}" if len(rows) > 1 else "one sequence"
            return Probe(fault=f"fails for {size}: {reason}")

    def _compared(self, worker: Worker, rows: list[Mix | None], exact: bool) -> Probe:
        unpatched = self._logits(worker, "unpatched", len(rows))
        worker("ask", rows=rows)
        steered = self._logits(worker, "steered", len(rows)) - unpatched
        hook = self._hook(worker, rows, unpatched)
        asked = [n for n, row in enumerate(rows) if row]
        probe = Probe(
            cosine=min(_cosine(steered[n], hook[n]) for n in asked),
            lengths=[_length(steered[n]) / _length(hook[n]) for n in asked],
            largest=float(np.abs(steered - hook).max()),
        )
        least, off = CLOSE[self._dtype] if exact else ROUNDED
        if not np.array_equal(self._logits(worker, "unpatched", len(rows)), unpatched):
            probe.fault = "the unpatched model has changed"
        elif probe.cosine < least or any(abs(length - 1) > off for length in probe.lengths):
            probe.fault = _instead(probe)
        elif np.abs(np.delete(steered, asked, 0)).max(initial=0) > self._rounding(unpatched):
            probe.fault = "a row that asks for nothing is steered"
        return probe

    def _hook(self, worker: Worker, rows: list[Mix | None], unpatched: np.ndarray) -> np.ndarray:
        try:
            return self._logits(worker, "hook", len(rows)) - unpatched
        except Refused:  # no engine of PyTorch
            pass
        self._reference("ask", rows=rows)
        unpatched = self._logits(self._reference, "unpatched", len(rows))
        return self._logits(self._reference, "hook", len(rows)) - unpatched

    def _another_model(self, worker: Worker) -> tuple[str | None, float]:
        here = self._logits(worker, "unpatched", 1)
        there = self._logits(self._reference, "unpatched", 1)
        difference = float(np.abs(here - there).max())
        if difference <= 10 * self._rounding(there):
            return None, difference
        text = f"its unpatched logits are others, by {difference:.2g}: it runs another model"
        return text, difference

    def _idle(self, worker: Worker) -> tuple[str | None, dict[str, Any]]:
        unpatched = self._logits(worker, "unpatched", 1)
        worker("ask", rows=[None])
        idle = self._logits(worker, "steered", 1)
        difference = float(np.abs(idle - unpatched).max())
        seen = {"bits": bool(np.array_equal(idle, unpatched)), "largest": difference}
        if difference <= self._rounding(unpatched):
            return None, seen
        return f"steers where nothing is asked: logits differ by {difference:.2g}", seen

    def _rounding(self, logits: np.ndarray) -> float:
        return ROUNDING[self._dtype] * float(np.abs(logits).max())

    def _logits(self, worker: Worker, how: str, batch: int) -> np.ndarray:
        ids = prompts(batch, TOKENS, self._model.vocabulary)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "logits.npy"
            worker("logits", how=how, prompts=ids, file=str(file))
            return np.load(file).astype(np.float64)


def _instead(probe: Probe) -> str:
    untouched = [n for n, length in enumerate(probe.lengths) if length < 0.01]
    if len(untouched) == len(probe.lengths):
        return "steers nothing"
    if untouched:
        return f"does not steer row {_numbers(untouched)} of {len(probe.lengths)}"
    lengths = _numbers(sorted({round(length, 3) for length in probe.lengths}))
    return f"not what the hook does: cosine {probe.cosine:.5f}, {lengths} times as long"


def _numbers(values: Sequence[float]) -> str:
    return " and ".join(f"{value:g}" for value in values)


def _length(change: np.ndarray) -> float:
    return float(np.linalg.norm(change))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / max(_length(one) * _length(other), 1e-30))
