"""A sweep within a time box: every case gets its share, what is left goes to those still wide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tqdm import tqdm

from emokernel.bench.box import LEAST_TOKENS, Box, Cost, Plan, TimeIsUp
from emokernel.bench.cases import Case
from emokernel.bench.decode import Timing
from emokernel.bench.harness import FEWEST_ROUNDS, interleaved
from emokernel.bench.prepared import BenchOptions, prepared_for
from emokernel.bench.results import Row, half_widths, rows_of

_WARMUP = 2  # rounds before those that count; one where time is short
# A precision is looked at from so many rounds on, and asked for at most so many times --rounds.
FIRST_LOOK, MOST = 10, 10
TIME_WAS_UP = "time was up"
_MARGIN = 1.1  # no two rounds take the same time


class Ways(Protocol):
    """What runs the variants of cases that are prepared alike, as `Prepared` does."""

    obstacles: dict[str, str]

    @property
    def names(self) -> list[str]: ...
    def ask(self, case: Case, stopped: dict[str, str]) -> None: ...
    def generate(self, name: str, tokens: int, stopped: dict[str, str]) -> Timing | None: ...
    def free(self) -> None: ...


@dataclass
class MeasuredCase:
    """A case (or what there is of it yet): its rows, and its timings by variant.

    ``finished``: it has all the rounds that it was to have, or is as precise as was asked.
    """

    case: Case
    rows: list[Row]
    timings: dict[str, list[Timing]]
    finished: bool = True


@dataclass
class _Progress:
    """What was done for a case so far."""

    case: Case
    timings: dict[str, list[Timing]] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    tokens: int | None = None
    cost: Cost | None = None
    tried: bool = False
    given_up: bool = False

    @property
    def rounds(self) -> int:
        return max(map(len, self.timings.values()), default=0)


class Sweeping:
    """Cases, measured one after the other; ``prepare(case, tokens)`` makes what runs them.

    Without a box each gets its rounds in its turn. In a box each may use an equal share of the time
    that is left when its turn comes, for no more than its rounds: fewer tokens first, then fewer
    rounds. What that leaves is shared among the cases that have none, then those that lack some,
    then those that lack precision, the cheapest first, so that none starves another. All of it is
    planned by what was measured: of a case itself, or of a smaller one.
    """

    def __init__(
        self,
        prepare: Callable[[Case, int], Ways],
        cases: Sequence[Case],
        options: BenchOptions,
        box: Box,
    ) -> None:
        self._make, self._options, self._box = prepare, options, box
        self._all = [_Progress(case) for case in cases]
        self._ways: Ways | None = None
        self._key: Hashable = None
        self._preparing: dict[Hashable, float] = {}

    def run(self) -> Iterator[MeasuredCase]:
        """Cases as they are measured; one that gets more rounds later comes again, with all."""
        try:
            yield from self._turns()
            yield from self._leftovers()
        finally:
            self._free()
        for progress in self._all:
            if not progress.tried:
                yield self._measured(progress, TIME_WAS_UP)

    def _turns(self) -> Iterator[MeasuredCase]:
        for number, progress in enumerate(self._all):
            share = self._box.left() / (len(self._all) - number)
            if 0 < share >= self._need(progress):
                yield from self._visit(progress, share)

    def _leftovers(self) -> Iterator[MeasuredCase]:
        while self._box.left() > 0:
            lacking = [each for each in self._all if not each.given_up and not self._enough(each)]
            lacking.sort(key=self._turn_of)
            fitting = [each for each in lacking if self._need(each) <= self._box.left()]
            # What was never tried may take less than a smaller case lets expect.
            chosen = fitting or [each for each in lacking if each.cost is None][:1]
            if not chosen:
                return
            share = max(self._box.left() / len(chosen), _MARGIN * self._need(chosen[0]))
            yield from self._visit(chosen[0], min(share, self._box.left()))

    def _turn_of(self, progress: _Progress) -> tuple[bool, bool, float]:
        """What has no rounds comes first, then what lacks some, then what lacks precision."""
        return progress.rounds > 0, self._has_rounds(progress), self._need(progress)

    def _visit(self, progress: _Progress, seconds: float) -> Iterator[MeasuredCase]:
        before, otherwise, interrupted = progress.rounds, TIME_WAS_UP, False
        progress.tried = True
        try:
            with self._box.enforced():
                self._measure(progress, self._box.clock() + seconds)
        except TimeIsUp:
            self._box.seconds = 0.0
        except KeyboardInterrupt:
            otherwise, interrupted = "interrupted", True
        progress.given_up = progress.rounds == before and progress.cost is not None
        if not interrupted and not progress.rounds and progress.cost and self._names(progress):
            progress.tried = False  # told at the end, unless there is time for it after all
            progress.given_up = self._need(progress) > self._box.left()
            return
        yield self._measured(progress, otherwise)
        if interrupted:
            raise KeyboardInterrupt

    def _measure(self, progress: _Progress, until: float) -> None:
        clock, options = self._box.clock, self._options
        ways = self._prepared(progress)
        ways.ask(progress.case, progress.stopped)
        warm = progress.tokens or self._fewest_tokens
        generate = partial(self._round, progress, ways)
        for read in generate(warm, 1 if self._box.is_bounded else _WARMUP):
            progress.cost = _cost(read)
        if progress.cost is None:  # nothing can run
            return
        if progress.tokens is None:
            # Long generations are no use while another case lacks rounds.
            tokens = warm if self._others_lack(progress) else options.new_tokens
            plan = progress.cost.plan(until - clock(), Plan(options.rounds, tokens))
            if plan is None:
                return
            progress.tokens = plan.tokens
        began, most = clock(), options.rounds * (MOST if options.precision else 1)
        with closing(generate(progress.tokens, most - progress.rounds, bar=True)) as rounds:
            for read in rounds:
                for name, timing in read.items():
                    if timing is not None:
                        progress.timings.setdefault(name, []).append(timing)
                took, began = clock() - began, clock()
                in_turn = self._has_rounds(progress) and self._others_wait(progress)
                if self._enough(progress) or in_turn or began + took > until:
                    break

    def _round(
        self, progress: _Progress, ways: Ways, tokens: int, rounds: int, bar: bool = False
    ) -> Iterator[dict[str, Timing | None]]:
        timed = {
            name: partial(ways.generate, name, tokens, progress.stopped) for name in ways.names
        }
        wrap = partial(tqdm, desc=str(progress.case), leave=False, disable=not (bar and timed))
        return interleaved(timed, max(rounds, 1), 0, wrap=wrap, clock=lambda call: call())

    def _prepared(self, progress: _Progress) -> Ways:
        key = prepared_for(progress.case)
        if self._ways is None or self._key != key:
            self._free()
            began = self._box.clock()
            self._ways, self._key = self._make(progress.case, self._fewest_tokens), key
            self._preparing[key] = self._box.clock() - began
        for name, reason in self._ways.obstacles.items():
            progress.stopped.setdefault(name, reason)
        return self._ways

    @property
    def _fewest_tokens(self) -> int:
        tokens = self._options.new_tokens
        return min(LEAST_TOKENS, tokens) if self._box.is_bounded else tokens

    def _free(self) -> None:
        ways, self._ways = self._ways, None
        if ways is not None:
            ways.free()

    def _names(self, progress: _Progress) -> list[str]:
        """The variants of a case that can still run."""
        every = (variant.name for variant in self._options.variants)
        return [name for name in every if name not in progress.stopped]

    def _others_lack(self, progress: _Progress) -> bool:
        measured = (each for each in self._all if each is not progress and each.cost is not None)
        return any(not each.given_up and each.rounds < self._options.rounds for each in measured)

    def _has_rounds(self, progress: _Progress) -> bool:
        return progress.rounds >= self._options.rounds

    def _others_wait(self, progress: _Progress) -> bool:
        """Whether another case still lacks rounds, for which time may be short."""
        others = (each for each in self._all if each is not progress and not each.given_up)
        return self._box.is_bounded and not all(map(self._has_rounds, others))

    def _enough(self, progress: _Progress) -> bool:
        """Whether a case needs no more rounds."""
        options, names = self._options, self._names(progress)
        if not names:
            return True
        precision = options.precision
        if precision is None or progress.rounds >= MOST * options.rounds:
            return progress.rounds >= options.rounds
        if progress.rounds < min(FIRST_LOOK, options.rounds):
            return False
        widths = half_widths(options.variants, progress.timings)
        return all(widths.get(name, 0.0) <= precision for name in names)

    def _need(self, progress: _Progress) -> float:
        """Seconds without which a visit of a case shows nothing more; 0 where nothing is known."""
        if not self._box.is_bounded:
            return 0.0
        key = prepared_for(progress.case)
        preparing = 0.0 if self._key == key and self._ways else self._preparing.get(key)
        cost, larger = progress.cost, 1.0
        if cost is None or preparing is None:
            like = self._like(progress.case)
            if like is None:
                return 0.0
            larger = max(1.0, _work(progress.case) / _work(like.case))
            cost = cost or like.cost
            if preparing is None:
                preparing = self._preparing.get(prepared_for(like.case), 0.0)
        fewest = min(FEWEST_ROUNDS, self._options.rounds)
        rounds = 1 + max(1, fewest - progress.rounds)
        return preparing + larger * rounds * cost.round(progress.tokens or self._fewest_tokens)

    def _like(self, case: Case) -> _Progress | None:
        """The measured case whose work is the nearest."""
        known = [each for each in self._all if each.cost is not None]
        return min(known, key=lambda each: abs(_work(each.case) - _work(case)), default=None)

    def _measured(self, progress: _Progress, otherwise: str) -> MeasuredCase:
        options = self._options
        finished = self._enough(progress) and otherwise != "interrupted"
        has_all = progress.rounds >= options.rounds or (finished and self._names(progress))
        rounds = progress.rounds if has_all else options.rounds
        if not progress.timings and otherwise == TIME_WAS_UP:
            otherwise = f"not begun: {self._why_not(progress)}"
        rows = rows_of(
            progress.case, options.variants, progress.timings, progress.stopped, rounds, otherwise
        )
        return MeasuredCase(progress.case, rows, progress.timings, finished)

    def _why_not(self, progress: _Progress) -> str:
        if progress.cost is None:
            return TIME_WAS_UP
        fewest = min(FEWEST_ROUNDS, self._options.rounds)
        seconds = fewest * progress.cost.round(self._fewest_tokens)
        return f"{fewest} rounds take {seconds:.0f} s, which were not left"


def _cost(read: dict[str, Timing | None]) -> Cost | None:
    """Of a round; None if nothing ran."""
    timings = [timing for timing in read.values() if timing is not None]
    if not timings:
        return None
    return Cost(sum(timing.first for timing in timings), sum(timing.step for timing in timings))


def _work(case: Case) -> int:
    """To what the time of a generation is about in proportion, at most."""
    return case.batch * (case.context + LEAST_TOKENS)
