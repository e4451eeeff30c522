"""What a laptop is asked to write: how much it is, what grows, and what is told of it."""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace

import pytest
import torch
from lab.evaluate.conftest import same

from emokernel import EmokernelError, EmotionVectors
from emokernel.affect import Coordinates
from emokernel.commands import evaluate as command
from emokernel.lab.evaluate.evaluation import GENERATIONS, cost
from emokernel.lab.evaluate.plan import Plan, spread
from emokernel.lab.evaluate.prompting import prompting
from emokernel.lab.evaluate.settings import LAPTOP, WHOLE, Settings

RUSSELL = Coordinates.named("russell")
EMOTIONS = (
    "admiration amusement anger annoyance caring curiosity disgust fear gratitude joy love"
    " optimism remorse sadness surprise"
).split()


@pytest.fixture
def plan(patched, tokenizer):
    """``plan(settings)`` of a chat model with 15 emotions."""
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
    generator = torch.Generator().manual_seed(0)
    vectors = EmotionVectors.from_tensors(
        {name: torch.randn(3, 64, generator=generator) for name in EMOTIONS}, site="block"
    )
    asked = prompting(chat, embedded=False, openings=(), coordinates=RUSSELL)
    steering = patched(vectors)
    return lambda settings, known=None: Plan(steering, asked, settings, known)


def test_the_plan_of_a_laptop_in_numbers(plan):
    made = plan(LAPTOP)
    # Vectors; four templates, of which one at two intensities; both with two of them.
    states = 12 * (4 + (2 + 1 + 1 + 1) + (2 + 1))
    prompts, strengths, doses = 2 * 15, 15 * 6, 2 * 4 * 3
    assert made.texts == 3 * (20 + 10 * (states + prompts + strengths + doses)) == 8700
    said = cost(made)
    assert "8,700 texts of at most 48 tokens" in said
    assert "417,600 tokens" in said
    whole = plan(WHOLE)
    assert whole.texts > 8 * made.texts


def test_a_plan_has_as_many_texts_as_its_cells(plan):
    made = plan(replace(LAPTOP, openings=3, seeds=2))
    doses = {pair: {dose: (1.0, dose) for dose in LAPTOP.doses} for pair in made.dosed}
    cells = [
        made.unsteered(), *made.states(), *made.emotions_by_prompt(),
        *made.emotions_by_strength({}), *made.emotions_by_dose(doses),
    ]  # fmt: skip
    assert made.texts == 2 * sum(len(cell.jobs()) for cell in cells)
    assert len({cell.key for cell in cells}) == len(cells)


def test_emotions_that_the_judge_does_not_know_are_asked_for_by_vector_alone(plan):
    known = [name for name in EMOTIONS if name not in ("joy", "fear", "sadness")]
    made = plan(LAPTOP, known)
    assert made.texts == 8700 - 3 * 10 * 2 * 3
    assert {emotion for emotion, _ in made.asked} == set(EMOTIONS)
    assert not {emotion for emotion, _ in made.dosed} - set(known)
    assert {cell.name for cell in made.emotions_by_prompt()} == set(known)


def test_prompts_and_vectors_together_are_of_the_joined_templates(plan):
    modes = {"both": set(), "prompt": set(), "vector": set()}
    for cell in plan(LAPTOP).states():
        modes[cell.mode].add((cell.template, cell.intensity))
    full = {(template, 1.0) for template in ("values", "values-actor", "word", "word-actor")}
    assert modes["prompt"] == full | {("values", 0.5)}
    assert modes["both"] == {("values", 0.5), ("values", 1.0), ("word", 1.0)}
    none = plan(replace(LAPTOP, joined=()))
    assert not [cell for cell in none.states() if cell.mode == "both"]
    assert none.texts == 8700 - 3 * 10 * 12 * 3
    with pytest.raises(EmokernelError, match="no template 'sung'"):
        plan(replace(LAPTOP, joined=("sung",)))


def test_emotions_that_are_compared_lie_all_around_and_more_of_them_are_the_same_and_others():
    order = spread(EMOTIONS, RUSSELL)
    assert sorted(order) == EMOTIONS
    angles = sorted(RUSSELL.angle(name) for name in order[:4])
    gaps = [(b - a) % 360 for a, b in zip(angles, [*angles[1:], angles[0]], strict=True)]
    assert max(gaps) < 180
    assert spread(order[:4], RUSSELL) == spread([*order[:4], "nothing"], RUSSELL)[:4]
    assert spread(["b", "a"], RUSSELL) == ("b", "a")


@pytest.mark.parametrize("compared", [0, 1, None])
def test_the_other_law_and_doses_are_of_the_compared_emotions(compared, plan):
    made = plan(replace(LAPTOP, compared=compared))
    other = {emotion for emotion, law in made.dosed if law != made.law}
    expected = EMOTIONS if compared is None else spread(EMOTIONS, RUSSELL)[:compared]
    assert other == {emotion for emotion, _ in made.dosed} == set(expected)
    at_strengths = {emotion for emotion, law in made.asked if law != made.law}
    assert at_strengths == (set(EMOTIONS) if compared is None else set())
    assert {emotion for emotion, law in made.asked if law == made.law} == set(EMOTIONS)


def test_a_small_run_grows_in_everything_that_a_laptop_leaves_out(run, tmp_path, settings):
    small = replace(
        settings, openings=2, seeds=1, strengths=(1.0,), doses=(0.2,), compared=1, prompted=(1.0,)
    )
    large = replace(small, seeds=2, compared=3, prompted=(0.5, 1.0), strengths=(0.5, 1.0))
    run(tmp_path / "grown", settings=small)
    before = (tmp_path / "grown" / GENERATIONS).read_text("utf-8")
    grown = run(tmp_path / "grown", settings=large)
    after = (tmp_path / "grown" / GENERATIONS).read_text("utf-8")
    assert after.startswith(before)
    keys = [json.loads(line)["key"] for line in after.splitlines()[1:]]
    assert len(set(keys)) == len(keys), "nothing was written twice"
    fresh = run(tmp_path / "fresh", settings=large)
    assert same(grown.consistency, fresh.consistency)
    assert same(grown.laws, fresh.laws)
    assert same(grown.emotions, fresh.emotions)
    assert [goal.holds for goal in grown.goals] == [goal.holds for goal in fresh.goals]
    assert {len(law.emotions) for law in grown.laws} == {3}


def chosen(*options):
    parser = argparse.ArgumentParser()
    command.add(parser)
    return command.settings_of(parser.parse_args(options))


def test_models_bring_their_own_plan_and_options_go_before_it():
    assert chosen("some/model") == LAPTOP
    embedded = chosen()
    assert replace(embedded, sampling=WHOLE.sampling) == WHOLE
    assert embedded.sampling.max_new_tokens == 28
    more = chosen(
        "some/model", "--seeds", "6", "--compared", "15", "--intensities", "1", "--doses",
        "--max-new-tokens", "9",
    )  # fmt: skip
    assert (more.seeds, more.compared, more.doses) == (6, 15, ())
    assert (more.templates, more.joined) == (None, ("values", "word"))
    assert chosen("some/model", "--joined", "word").joined == ("word",)
    assert chosen("some/model", "--templates", "word", "word-actor").joined == ("word",)
    with pytest.raises(EmokernelError, match="among all templates"):
        chosen("some/model", "--templates", "word", "--joined", "values")
    assert (more.intensities, more.prompted) == ((1.0,), (1.0,))
    assert (more.openings, more.sampling.max_new_tokens) == (LAPTOP.openings, 9)
    assert chosen("some/model", "--prompted", "1", "0.25").prompted == (1.0, 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompted": (0.3, 1.0)}, "at the same intensity"),
        ({"prompted": (0.5,)}, "about intensity 1"),
        ({"compared": -1}, "a number of emotions"),
        ({"dose_texts": 0}, "dose_texts must be at least 1"),
    ],
)
def test_bad_sizes_are_told(change, message):
    with pytest.raises(EmokernelError, match=message):
        Settings(**change)
