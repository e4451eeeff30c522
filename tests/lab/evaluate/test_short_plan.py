"""A plan without prompts, doses and reading again, in which one emotion alone has all strengths."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from emokernel import EmokernelError
from emokernel.lab.evaluate.evaluation import GENERATIONS
from emokernel.lab.evaluate.results import VECTOR
from emokernel.lab.evaluate.settings import Settings
from emokernel.lab.report import write_report


@pytest.fixture
def short(settings):
    return replace(
        settings, seeds=1, intensities=(1.0,), strengths=(0.5, 1.0), doses=(), laws=(), graded=1,
        templates=(), reread=False,
    )  # fmt: skip


def test_it_writes_nothing_else_and_reads_nothing_again(run, tmp_path, short, word_emotions):
    results = run(tmp_path, settings=short)
    assert {row.mode for row in results.consistency} == {VECTOR}
    by_strength = {}
    for point in results.emotions:
        by_strength.setdefault(point.strength, []).append(point.emotion)
        assert math.isnan(point.measures.perplexity_ratio)
        assert math.isnan(point.measures.to_unsteered.mean)
    assert sorted(by_strength[1.0]) == sorted(by_strength[0.0]) == sorted(word_emotions.names)
    assert len(by_strength[0.5]) == 1
    lines = (tmp_path / GENERATIONS).read_text("utf-8").splitlines()
    assert len(lines) - 1 == results.about["texts"] == 5 * (1 + 12 + len(word_emotions.names) + 1)
    assert not any({"nats", "tokens"} & json.loads(line)["value"].keys() for line in lines[1:])
    (perplexity,) = (goal for goal in results.goals if goal.name.startswith("Perplexity"))
    assert perplexity.holds is None
    write_report(tmp_path, results)  # whatever was not measured


def test_what_was_read_once_is_no_beginning_of_what_is_read_again(run, tmp_path, short):
    run(tmp_path, settings=short)
    with pytest.raises(EmokernelError, match="read again"):
        run(tmp_path, settings=replace(short, reread=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graded": -1}, "graded is a number of emotions"),
        ({"reread": False}, "doses are measured by reading again"),
    ],
)
def test_what_does_not_go_together_is_told(change, message):
    with pytest.raises(EmokernelError, match=message):
        Settings(**change)
