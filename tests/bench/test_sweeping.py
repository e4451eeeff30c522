"""A sweep in a box of time, on a clock that only moves when something is measured."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emokernel.bench.box import LEAST_TOKENS, Box, Cost, Plan, TimeIsUp, process_began
from emokernel.bench.cases import Case
from emokernel.bench.decode import Timing
from emokernel.bench.prepared import BenchOptions
from emokernel.bench.sweeping import FIRST_LOOK, MOST, MeasuredCase, Sweeping
from emokernel.bench.variants import with_baselines

VARIANTS = tuple(with_baselines(["emokernel"]))  # with the unpatched model, and that again


@dataclass
class Machine:
    """A clock in seconds, and what on it takes how long; ``spread``: of a timing, as a share."""

    second: float = 1.0  # of a token of one sequence
    preparing: float = 2.0
    spread: float = 0.01
    now: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(0))
    prepared: list[Case] = field(default_factory=list)
    asked: Case | None = None
    tokens: set[int] = field(default_factory=set)

    obstacles: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = tuple(variant.name for variant in VARIANTS)

    def prepare(self, case: Case, tokens: int) -> Machine:
        self.prepared.append(case)
        self.now += self.preparing
        return self

    def ask(self, case: Case, stopped: dict[str, str]) -> None:
        self.asked = case

    def generate(self, name: str, tokens: int, stopped: dict[str, str]) -> Timing:
        step = self.second * self.asked.batch
        noisy = [step * self.random.lognormvariate(0, self.spread) for _ in range(tokens)]
        timing = Timing(noisy[0] * self.asked.context / 64, tuple(noisy[1:]))
        self.now += timing.total
        self.tokens.add(tokens)
        return timing

    def free(self) -> None:
        self.asked = None


def swept(
    machine: Machine, cases: list[Case], seconds: float | None, **others
) -> dict[Case, MeasuredCase]:
    """What was last told of each case; in order of the cases."""
    options = BenchOptions(VARIANTS, **({"new_tokens": 12, "rounds": 20} | others))
    box = Box(clock=lambda: machine.now)
    if seconds is not None:
        box = Box(seconds, clock=lambda: machine.now, began=0.0)
        box.enforced = _not_enforced
    found = {done.case: done for done in Sweeping(machine.prepare, cases, options, box).run()}
    assert set(found) == set(cases)
    return {case: found[case] for case in cases}


class _not_enforced:  # plans have to hold by themselves
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def rounds(done: MeasuredCase) -> int:
    return max(map(len, done.timings.values()), default=0)


SWEEP = [Case(1), Case(4), Case(8, 64, 0.5), Case(8)]


def test_without_a_box_every_case_has_its_rounds():
    machine = Machine()
    found = swept(machine, SWEEP, None)
    assert all(done.finished and rounds(done) == 20 for done in found.values())
    assert machine.tokens == {12}
    assert machine.prepared == [Case(1), Case(4), Case(8, 64, 0.5)]  # once for both of batch 8


def test_a_box_that_is_large_enough_changes_nothing_but_the_preparation():
    machine = Machine(second=0.01)
    found = swept(machine, SWEEP, 3600)
    assert all(done.finished and rounds(done) == 20 for done in found.values())
    assert {row["new_tokens"] for done in found.values() for row in done.rows} == {12}


@settings(max_examples=60, deadline=None)
@given(
    seconds=st.floats(20, 4000),
    second=st.floats(0.01, 0.5),
    preparing=st.floats(0.1, 10),
    spread=st.floats(0, 0.2),
    cases=st.lists(
        st.builds(Case, st.sampled_from([1, 4, 16]), st.sampled_from([16, 64, 1024])),
        min_size=1, max_size=6, unique=True,
    ),
    precision=st.sampled_from([None, 0.005, 0.05]),
)  # fmt: skip
def test_a_box_holds_and_says_what_did_not_fit(
    seconds, second, preparing, spread, cases, precision
):
    """But for what nothing was known of: the first preparation and its first rounds, or cases
    larger than all before, each of which the alarm stops on a real clock."""
    machine = Machine(second, preparing, spread)
    found = swept(machine, cases, seconds, precision=precision)
    largest = max(case.batch * (case.context + 64 * LEAST_TOKENS) / 64 for case in cases)
    one_round = 3 * second * largest * (1 + spread) ** 4
    assert machine.now <= seconds + preparing + 2 * one_round + 1e-6
    for case, done in found.items():
        if not rounds(done):
            assert not done.finished
            assert all(row["not_run"].startswith("not begun: ") for row in done.rows), case
        elif rounds(done) < 20 and not done.finished:
            assert all(row["stopped"].startswith("time was up after ") for row in done.rows)


def test_less_time_means_fewer_tokens_then_fewer_rounds_then_none():
    cost = Cost(first=1.0, step=0.5)
    wanted = Plan(20, 12)
    assert cost.plan(1000, wanted) == wanted
    assert cost.plan(20 * 4.5, wanted) == Plan(20, 8)
    assert cost.plan(20 * 2.5, wanted) == Plan(20, LEAST_TOKENS)
    assert cost.plan(10 * 2.5, wanted) == Plan(10, LEAST_TOKENS)
    assert cost.plan(6 * 2.5, wanted) == Plan(6, LEAST_TOKENS)
    assert cost.plan(6 * 2.5 - 0.1, wanted) is None
    assert cost.plan(2.0, Plan(1, 2)) == Plan(1, 2)


def test_a_large_case_does_not_starve_the_others():
    large = Case(16, 4096)
    machine = Machine(second=0.1, preparing=1)
    # Six rounds of the large one would take all of it, wherever it stands.
    for order in ([Case(1), large, Case(4)], [Case(1), Case(4), large]):
        found = swept(Machine(second=0.1, preparing=1), order, 600)
        assert rounds(found[Case(1)]) == rounds(found[Case(4)]) == 20
        assert not rounds(found[large])
        assert "not begun: " in found[large].rows[0]["not_run"]
    assert machine.now == 0


def test_what_is_left_goes_to_those_that_lack_rounds():
    cases = [Case(8), Case(1), Case(2)]
    machine = Machine(second=0.1, preparing=1)
    # A third of the time is too short for the first; what the others leave is enough.
    found = swept(machine, cases, 330)
    assert all(rounds(done) == 20 for done in found.values()), {
        case: rounds(done) for case, done in found.items()
    }
    assert machine.prepared == [*cases, Case(8)]  # which had not had its rounds at its turn


def test_a_case_without_rounds_comes_before_more_rounds_of_others():
    cases = [Case(8), Case(1), Case(2)]
    # A third of the time is too short for the first; a precision would take all of the others'.
    found = swept(Machine(second=0.1, preparing=1), cases, 345, precision=1e-4)
    assert all(rounds(done) >= 20 for done in found.values()), {
        case: rounds(done) for case, done in found.items()
    }


def test_a_case_that_was_not_begun_comes_before_one_that_lacks_rounds():
    cases = [Case(16), Case(8), Case(1)]
    # Six rounds of the first take more than a third, and about what the others leave.
    found = swept(Machine(second=0.1, preparing=1), cases, 345)
    assert rounds(found[Case(16)]) >= 6
    assert 6 <= rounds(found[Case(8)]) < rounds(found[Case(1)]) == 20


def test_rounds_are_added_until_the_interval_is_as_narrow_as_asked():
    quiet, noisy = Machine(0.01, spread=0.002), Machine(0.01, spread=0.2)
    (done,) = swept(quiet, [Case(1)], None, precision=0.02).values()
    assert rounds(done) == FIRST_LOOK
    assert done.finished
    (done,) = swept(noisy, [Case(1)], None, precision=0.02).values()
    assert 20 < rounds(done) < 20 * MOST
    assert max(row.get("half_width", 0) for row in done.rows) <= 0.02
    (done,) = swept(noisy, [Case(1)], None, precision=1e-4).values()
    assert rounds(done) == 20 * MOST  # there is an end
    (done,) = swept(Machine(0.01, spread=0.2), [Case(1)], 20, precision=1e-4).values()
    assert FIRST_LOOK < rounds(done) < 20 * MOST
    assert not done.finished
    assert "stopped" not in done.rows[0]  # it has all its rounds; how wide it is, is told elsewhere


def test_a_rule_that_stops_by_width_keeps_the_coverage():
    """Of two equal variants, the interval has 1 in it as often as it says, about."""
    covered, runs, lengths = 0, 200, set()
    for seed in range(runs):
        machine = Machine(0.01, spread=0.03, random=random.Random(seed))
        (done,) = swept(machine, [Case(1)], None, precision=0.012, new_tokens=4).values()
        row = next(row for row in done.rows if row["variant"] == "emokernel")
        assert FIRST_LOOK <= row["rounds"] < 20 * MOST
        lengths.add(row["rounds"])
        low, high = row["ratio_interval"]
        covered += low <= 1 <= high
    assert len(lengths) > 10  # the rule did stop them
    assert covered >= 0.92 * runs


def test_the_alarm_ends_what_nobody_foresaw():
    before = signal.getsignal(signal.SIGALRM)
    box = Box(0.05)
    began = time.monotonic()
    with pytest.raises(TimeIsUp), box.enforced():
        time.sleep(20)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    with Box().enforced():  # no bounds, no alarm
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_finished_rounds_are_kept_when_the_alarm_rings():
    machine, calls = Machine(0.01), []
    generate = machine.generate

    def ringing(name, tokens, stopped):
        calls.append(name)
        if len(calls) == 3 * (1 + 7) + 2:  # a warm round and seven; in the middle of the next
            raise TimeIsUp
        return generate(name, tokens, stopped)

    machine.generate = ringing
    found = swept(machine, [Case(1), Case(4)], 100)
    assert rounds(found[Case(1)]) == 7
    assert found[Case(1)].rows[0]["stopped"] == "time was up after 7 of 20 rounds"
    assert found[Case(4)].rows[0]["not_run"] == "not begun: time was up"


def test_a_process_knows_when_it_began():
    began = process_began()
    assert 0 <= time.monotonic() - began < 24 * 3600
    assert process_began() == pytest.approx(began, abs=5)  # a busy machine reads slowly
