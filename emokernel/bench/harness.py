"""Interleaved timing of variants in one process, their comparison in pairs, and its record.

Results are JSON lines, one file per machine and question, to which every run appends.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from emokernel.machine import machine, machine_slug, versions

T = TypeVar("T")
# Fewer pairs have no distribution-free 95 % interval: 2 / 2^5 is more than 5 %.
FEWEST_ROUNDS = 6


def wall_clock(call: Callable[[], object]) -> float:
    """Seconds of ``call``."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int = 30,
    warmup: int = 3,
    *,
    wrap: Callable[[Iterable[int]], Iterable[int]] = iter,
    clock: Callable[[Callable[[], object]], T] = wall_clock,
) -> Iterator[dict[str, T]]:
    """What the clock read of every variant, round by round, as the rounds are finished.

    A round calls every variant once, in an order that is shuffled (reproducibly) from round to
    round, so that slow drifts of the machine meet all of them alike. ``warmup`` rounds are not
    given. ``wrap`` may be tqdm, and ``clock`` another way to time a call than the wall clock. The
    garbage collector is off meanwhile.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    order = list(variants)
    shuffle = random.Random(0).shuffle
    with uncollected():
        for number in wrap(range(warmup + rounds)):
            shuffle(order)
            read = {name: clock(variants[name]) for name in order}
            if number >= warmup:
                yield read


def measure(
    variants: Mapping[str, Callable[[], object]], rounds: int = 30, warmup: int = 3, **options: Any
) -> dict[str, list]:
    """What the clock read of every call, by variant; entry i of each list is from round i.

    ``options``: those of `interleaved`.
    """
    readings: dict[str, list] = {name: [] for name in variants}
    for read in interleaved(variants, rounds, warmup, **options):
        for name, value in read.items():
            readings[name].append(value)
    return readings


@dataclass(frozen=True)
class PairedRatio:
    """The ratio variant / baseline, paired by round: its median and 95 % interval.

    ``rounds``: how many there are; below `FEWEST_ROUNDS` the interval spans all of them and has
    less confidence.
    """

    ratio: float
    low: float
    high: float
    rounds: int

    def is_seen(self, noise: PairedRatio | None = None) -> bool:
        """Whether there is a difference that is more than noise.

        There have to be `FEWEST_ROUNDS`, the interval has to exclude 1, and the ratio has to lie
        outside of the `spread` of ``noise``: the baseline against itself, measured as one more
        variant of the same run.
        """
        if self.rounds < FEWEST_ROUNDS or self.low <= 1 <= self.high:
            return False
        if noise is None:
            return True
        low, high = noise.spread()
        return not low <= self.ratio <= high

    def spread(self) -> tuple[float, float]:
        """The interval of noise: around 1, as far below as above (in ratio).

        Which of the two was the first is chance, so that a ratio is as likely as its reciprocal.
        """
        edge = max(self.low, 1 / self.low, self.high, 1 / self.high)
        return 1 / edge, edge

    def in_words(self, noise: PairedRatio | None = None) -> str:
        """The ratio with its interval; no ratio where none `is_seen`."""
        interval = f"{self.low:.3f} to {self.high:.3f}"
        if self.is_seen(noise):
            return f"{self.ratio:.3f}x ({interval})"
        if self.rounds < FEWEST_ROUNDS:
            return f"too few rounds to tell ({self.rounds} of at least {FEWEST_ROUNDS})"
        if (
            noise is not None and not self.low <= 1 <= self.high
        ):  # then it is the noise that decides
            interval += "; noise {:.3f} to {:.3f}".format(*noise.spread())
        return f"no difference seen ({interval})"


def compare_to(baseline: Sequence[float], variant: Sequence[float]) -> PairedRatio:
    """Paired ratios of two equally long lists of `measure`, by their median.

    The interval is the distribution-free one of the sign test: the order statistics of the ratios
    between which the true median lies with at least 95 % confidence (all of them below
    `FEWEST_ROUNDS`, where no such interval exists).
    """
    if len(baseline) != len(variant) or not baseline:
        raise ValueError(f"rounds do not pair: {len(baseline)} and {len(variant)}")
    ratios = sorted(b / a for a, b in zip(baseline, variant, strict=True))
    rank = _sign_test_rank(len(ratios))
    low, high = ratios[rank], ratios[len(ratios) - 1 - rank]
    return PairedRatio(statistics.median(ratios), low, high, len(ratios))


def _sign_test_rank(count: int) -> int:
    """The largest rank whose tail of Binomial(count, 1/2) is at most 2.5 %, at least 0."""
    tail, rank = 0.0, 0
    for k in range(count):
        tail += math.comb(count, k) / 2**count
        if tail > 0.025:
            break
        rank = k
    return rank


def now() -> str:
    """The date and time (UTC), as results have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def append(
    folder: Path, question: str, rows: Iterable[Mapping[str, object]], date: str | None = None
) -> Path:
    """Appends ``rows`` to ``<folder>/<question>-<machine>.jsonl``; returns the file.

    Every line also holds the date (UTC) of the run, the machine and the versions, and is on the
    disk when this returns. A run that appends several times gives its own ``date``, `now` when it
    began.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question}-{machine_slug()}.jsonl"
    about = {"date": date or now(), "machine": machine(), "versions": versions()}
    lines = "".join(json.dumps({**row, **about}) + "\n" for row in rows)
    with path.open("ab+") as file:  # at once: another run may append as well
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line that was torn stays alone
                lines = f"\n{lines}"
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())
    return path


def read(path: Path, *, last_run: bool = True) -> list[dict]:
    """The lines of a results file, by default those of its last run only.

    A line that an interruption has torn is left out.
    """
    rows = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            rows.append(json.loads(line))
    if last_run and rows:
        rows = [row for row in rows if row["date"] == rows[-1]["date"]]
    return rows
