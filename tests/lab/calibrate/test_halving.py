"""The search on landscapes whose best is known."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from simulated import EMOTIONS, LEVELS, Simulated, arm

from emokernel.errors import SteeringError
from emokernel.lab.calibrate import Bounds
from emokernel.lab.calibrate.frontier import best, refine
from emokernel.lab.calibrate.halving import Arm, halve, levels, score
from emokernel.lab.calibrate.measuring import Steered
from emokernel.lab.calibrate.plan import PROBE, Plan, each
from emokernel.lab.measure.equal_doses import Ladder

BOUNDS = Bounds()
PLAN = Plan()
LOG = math.log(BOUNDS.perplexity)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.05, 0.4), min_size=2, max_size=12),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_what_is_chosen_is_the_best_within_noise(gains, seed, noise):
    """Of candidates of any kind; what all texts of all candidates would say is the truth."""
    names = [f"c{n}" for n in range(len(gains))]
    landscape = Simulated(dict(zip(names, gains, strict=True)), noise=noise, seed=seed)
    scores = halve(landscape, [arm(name) for name in names], PLAN.candidates, BOUNDS)
    chosen = next(iter(scores))
    truth = {name: landscape.truth(name, LOG, EMOTIONS[0])[1] for name in names}
    few = sum(PLAN.candidates[:1])
    error = noise / math.sqrt(few)
    assert truth[chosen.name] >= max(truth.values()) - 4 * error - 1e-3
    assert len(scores) == len(names)


def test_texts_go_to_the_best_and_the_worst_gets_few():
    names = [f"c{n}" for n in range(10)]
    gains = {name: 0.05 + 0.03 * n for n, name in enumerate(names)}
    landscape = Simulated(gains)
    scores = halve(landscape, [arm(name) for name in names], PLAN.candidates, BOUNDS)
    assert next(iter(scores)).name == "c9"
    assert landscape.texts("c0") == len(LEVELS) * PLAN.candidates[0]
    assert landscape.texts("c9") >= landscape.texts("c8") > landscape.texts("c0")
    assert max(landscape.taken.values()) == 1, "nothing is written twice"


def test_the_search_stops_where_it_is_decided():
    landscape = Simulated({"good": 0.4, "bad": 0.1, "worse": 0.05, "worst": 0.0}, noise=0.05)
    halve(landscape, [arm(name) for name in landscape.gains], PLAN.candidates, BOUNDS)
    assert landscape.texts("good") == len(LEVELS) * PLAN.candidates[0]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_of_equal_laws_the_first_is_taken_and_a_better_one_wins(noise):
    equal = Simulated({"a": 0.3, "b": 0.3, "c": 0.3}, noise=noise)
    arms = [arm(name) for name in equal.gains]
    scores = halve(equal, arms, PLAN.laws, BOUNDS, prefer_first=True)
    assert next(iter(scores)).name == "a"
    better = Simulated({"a": 0.2, "b": 0.1, "c": 0.5}, noise=noise)
    arms = [arm(name) for name in better.gains]
    scores = halve(better, arms, PLAN.laws, BOUNDS, prefer_first=True)
    assert next(iter(scores)).name == "c"


def test_equal_laws_are_rarely_told_apart():
    chosen = []
    for seed in range(30):
        landscape = Simulated({"a": 0.3, "b": 0.3}, seed=seed)
        arms = [arm("a"), arm("b")]
        scores = halve(landscape, arms, PLAN.laws, BOUNDS, prefer_first=True)
        chosen.append(next(iter(scores)).name)
    assert chosen.count("a") >= 26


@pytest.mark.parametrize("cost", [0.1, 0.8, 5.0])
def test_ways_are_compared_around_the_dose_where_the_bounds_are_met(cost):
    landscape = Refusing({"bad one": 0.5, "c": 0.3}, dict.fromkeys(EMOTIONS, cost), noise=0.1)
    arms = [arm(name, levels=(PROBE,)) for name in landscape.gains]
    (at,) = levels(landscape, arms, PLAN.probe, BOUNDS)
    assert at == pytest.approx(1.2 * min(LOG / cost, 1.0), rel=0.3)
    assert landscape.texts() == PLAN.probe[0]
    with pytest.raises(SteeringError, match="no such place"):
        levels(landscape, arms[:1], PLAN.probe, BOUNDS)


def test_texts_that_repeat_themselves_are_out_of_bounds_long_before_their_perplexity():
    """Ten of twenty words said again are 7 of 27 4-grams, more than the bound of a twentieth."""
    landscape = Simulated({"c": 0.3}, dict.fromkeys(EMOTIONS, 0.1), repeats=40, noise=0.05)
    bounds, free = Bounds(distinct=0.5), Bounds(distinct=0.5, repetition=1.0)
    (at,), (freely,) = (
        levels(landscape, [arm("c", levels=(PROBE,))], PLAN.probe, wanted)
        for wanted in (bounds, free)
    )
    assert at < 0.1 < freely
    one = arm("c", levels=(4 * PROBE,))
    one.measure(landscape, one.levels, 0, 4)
    assert score(one, landscape, bounds).mean < 0.8 * score(one, landscape, free).mean
    refine(landscape, one, PLAN.frontier, bounds, 4)
    for point in best(landscape, one, bounds).values():
        assert 0 < point.divergence < 0.3
        assert point.repetition <= 0.05 + 1e-6


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(0.3, 3.0), min_size=15, max_size=15),
    st.integers(0, 1000),
)
def test_each_emotion_gets_the_strength_where_its_bound_lies(costs, seed):
    """Within noise, whether it lies below, between or beyond the first doses."""
    costly = dict(zip(EMOTIONS, costs, strict=True))
    landscape = Simulated({"c": 0.3}, costly, noise=0.15, seed=seed)
    one = arm("c")
    texts = each(PLAN.candidates[0], len(EMOTIONS))
    one.measure(landscape, one.levels, 0, texts)
    refine(landscape, one, PLAN.frontier, BOUNDS, texts)
    ratios = []
    for ask, point in best(landscape, one, BOUNDS).items():
        assert point.perplexity <= BOUNDS.perplexity * 1.0001
        strength, _ = landscape.truth("c", LOG, ask.name)
        ratios.append(point.strength / strength)
    assert all(0.5 < ratio < 1.6 for ratio in ratios), ratios
    assert 0.85 < sorted(ratios)[7] < 1.15
    assert landscape.texts() <= len(EMOTIONS) * (len(LEVELS) * texts + sum(PLAN.frontier))


def test_without_noise_the_strength_is_that_of_the_bound():
    landscape = Simulated({"c": 0.3}, {EMOTIONS[0]: 0.3, EMOTIONS[1]: 3.0}, noise=0.0)
    one = arm("c")
    one.measure(landscape, one.levels, 0, 1)
    refine(landscape, one, PLAN.frontier, BOUNDS, 1)
    for ask, point in best(landscape, one, BOUNDS).items():
        strength, effect = landscape.truth("c", LOG, ask.name)
        assert point.strength == pytest.approx(strength, rel=0.05)
        assert point.effect == pytest.approx(0.1 + effect, rel=0.05)


def test_prompts_are_the_same_for_all_arms_and_doses_and_never_taken_twice():
    landscape = Simulated({"a": 0.3, "b": 0.3})
    arms = [arm("a"), arm("b")]
    halve(landscape, arms, PLAN.laws, BOUNDS, prefer_first=True)
    taken = {}
    for name, emotion, strength, prompt in landscape.taken:
        taken.setdefault((name, emotion, strength), set()).add(prompt)
    for emotion in EMOTIONS:
        sets = [prompts for key, prompts in taken.items() if key[1] == emotion]
        assert all(prompts == sets[0] for prompts in sets)
    first = [min(p) for key, p in taken.items() if key[0] == "a"]
    assert len(set(first)) > 10, "the emotions are asked behind different prompts"


def test_more_texts_than_prompts_are_all_prompts_once():
    landscape = Simulated({"a": 0.3}, prompts=5)
    one = arm("a", EMOTIONS[:1])
    one.measure(landscape, one.levels, 0, 30)
    assert landscape.texts() == len(LEVELS) * 5


def test_twins_of_what_goes_on_are_tried_with_as_many_texts():
    landscape = Simulated({"a": 0.3, "b": 0.1, "twin": 0.5}, noise=0.05)
    made = []

    def also(one):
        made.append(arm("twin"))
        return made[-1:]

    arms = [arm("a"), arm("b")]
    scores = halve(landscape, arms, PLAN.candidates, BOUNDS, also=also)
    assert next(iter(scores)).name == "twin"
    assert len(made) == 1, "not of one that is dropped"


class Refusing(Simulated):
    def ladders(self, steered, spans):
        if steered.name.startswith("bad"):
            raise SteeringError("no such place")
        return super().ladders(steered, spans)


def test_what_the_model_does_not_allow_is_left_out(capsys):
    landscape = Refusing({"bad one": 0.5, "good": 0.2})
    scores = halve(landscape, [arm("bad one"), arm("good")], PLAN.candidates, BOUNDS)
    assert [each.name for each in scores] == ["good"]
    assert "bad one: left out (no such place)" in capsys.readouterr().out
    with pytest.raises(SteeringError, match="no such place"):
        halve(landscape, [arm("bad one")], PLAN.candidates, BOUNDS)


def test_a_plan_says_what_is_written_at_most():
    names = [f"c{n}" for n in range(10)]
    landscape = Simulated(dict.fromkeys(names, 0.3), noise=0.3)
    arms = [arm(name, levels=(0.5,)) for name in names]
    chosen = next(iter(halve(landscape, arms, PLAN.candidates, BOUNDS)))
    refine(landscape, chosen, PLAN.frontier, BOUNDS, 8)
    laws = [Arm(f"law {n}", Steered(names[n], None), chosen.levels) for n in range(1)]
    halve(landscape, laws, PLAN.laws, BOUNDS, prefer_first=True)
    most = PLAN.texts(len(names), False, len(EMOTIONS), 1, 0)
    assert 0.5 * sum(most) < landscape.texts() <= sum(most) - PLAN.probe[0]


def test_effort_is_a_factor_of_all_texts():
    few, usual, many = (Plan.of(effort) for effort in (0.5, 1.0, 2.0))
    assert usual == Plan()
    sizes = [sum(plan.texts(10, True, 15, 4, 12)) for plan in (few, usual, many)]
    assert sizes[0] < 0.7 * sizes[1]
    assert sizes[2] == pytest.approx(2 * sizes[1], rel=0.1)


def test_a_score_of_few_emotions_is_never_surely_ahead():
    landscape = Simulated({"a": 0.5, "b": 0.1}, noise=0.0)
    arms = [arm("a", EMOTIONS[:2]), arm("b", EMOTIONS[:2])]
    for one in arms:
        one.measure(landscape, one.levels, 0, 4)
    ahead = score(arms[0], landscape, BOUNDS).ahead(score(arms[1], landscape, BOUNDS))
    assert ahead == (-math.inf, math.inf)


def test_ways_that_know_not_all_the_same_are_compared_by_what_all_know():
    landscape = Simulated({"a": 0.2, "b": 0.5}, noise=0.05)
    plain = landscape.plain
    landscape.plain = lambda ask, prompts: (
        replace(plain(ask, prompts), effects=(9.0,) * len(prompts))
        if ask.name in (EMOTIONS[0], EMOTIONS[-1])
        else plain(ask, prompts)
    )
    arms = [arm("a", EMOTIONS[:-1]), arm("b", EMOTIONS[1:])]
    scores = halve(landscape, arms, PLAN.mappings, BOUNDS, prefer_first=True)
    assert next(iter(scores)).name == "b"
    assert all(len(each.without) == len(EMOTIONS) - 2 for each in scores.values())
    assert all(each.mean < 1 for each in scores.values())


def test_texts_of_one_dose_are_all_of_one_strength(monkeypatch):
    """A ladder that is measured again, since it did not reach, says another strength."""
    landscape = Simulated({"a": 0.3})
    one = arm("a", EMOTIONS[:1])
    (ask,) = one.asks
    one.measure(landscape, {ask: (0.5,)}, 0, 3)
    monkeypatch.setattr(
        landscape, "ladders", lambda steered, spans: {ask: Ladder(ask, {0.1: 0.01, 9.0: 9.0})}
    )
    one.measure(landscape, {ask: (0.5, 8.0)}, 3, 6)
    strengths = [strength for *_, strength, _ in landscape.taken]
    assert len(set(strengths)) == 2
    assert len(one.taken[ask][0.5][1]) == 6
