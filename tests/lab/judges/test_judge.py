"""The judges that ship with the package: what holds for both, and the figures they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embedded.judge import figures, macro_f1

from emokernel.lab.judges.judge import JUDGE_PATH, Judge
from emokernel.lab.judges.linear_judge import CalibrationJudge

GOEMOTIONS = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire "
    "disappointment disapproval disgust embarrassment excitement fear gratitude grief joy love "
    "nervousness optimism pride realization relief remorse sadness surprise neutral"
)


@pytest.fixture(scope="module", params=[Judge, CalibrationJudge])
def judge(request: pytest.FixtureRequest) -> Judge:
    return request.param.load()


def test_labels_are_those_of_goemotions(judge: Judge) -> None:
    assert " ".join(judge.labels) == GOEMOTIONS


def test_stored_size() -> None:
    assert sum(file.stat().st_size for file in JUDGE_PATH.iterdir()) <= 4_000_000


def test_probabilities_are_distributions(judge: Judge) -> None:
    texts = ["", "Hello there.", "!!! ???", "word " * 400, "Ünïcode 😍", "."]
    probabilities = judge.probabilities(texts)
    assert probabilities.shape == (len(texts), 28)
    assert probabilities.min() > 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(texts)))
    assert judge.probabilities([]).shape == (0, 28)


def test_a_text_is_judged_alone(judge: Judge) -> None:
    short, long = "I am so sad today.", "I like it, and " * 12
    together = judge.probabilities([short, long])
    torch.testing.assert_close(together[:1], judge.probabilities([short]))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Thank you so much for your help!", "gratitude"),
        ("I am so scared of what is coming.", "fear"),
        ("I love this so much!", "love"),
        ("That is disgusting.", "disgust"),
        ("I'm so sorry, it was my fault.", "remorse"),
        ("I am so sad today.", "sadness"),
        ("I'm so happy for you!", "joy"),
        ("Haha, that's hilarious.", "amusement"),
        ("The train leaves at nine.", "neutral"),
    ],
)
def test_obvious_sentences(judge: Judge, text: str, label: str) -> None:
    assert judge.labels[int(judge.probabilities([text])[0].argmax())] == label


@pytest.mark.parametrize(
    ("text", "label"),
    [("Wow, I am surprised by that!", "surprise"), ("That made me so angry.", "anger")],
)
def test_sentences_that_are_obvious_to_the_evaluating_judge(text: str, label: str) -> None:
    judge = Judge.load()
    assert judge.labels[int(judge.probabilities([text])[0].argmax())] == label


def test_saving_keeps_the_judge(judge: Judge, tmp_path: Path) -> None:
    judge.save(tmp_path)
    again = type(judge).load(tmp_path)
    texts = ["What a day.", "I can't believe you did that!"]
    torch.testing.assert_close(
        again.probabilities(texts), judge.probabilities(texts), atol=1e-3, rtol=0
    )


def test_half_a_character_is_read(judge: Judge) -> None:
    assert judge.probabilities(["What a day \ud83d"]).isfinite().all()


def test_missing_judge_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no judge"):
        Judge.load(tmp_path)


def test_figures_by_hand() -> None:
    targets = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1.0, 0]])
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]])
    values = figures(probabilities, targets, threshold=0.25)
    assert values["accuracy_any_label"] == pytest.approx(2 / 3, abs=1e-4)
    assert values["accuracy_single_label"] == pytest.approx(1 / 2)
    # First label: 1 hit of 2 predicted and 2 true; second: 1 hit of 2 and 2; third: none.
    assert values["macro_f1"] == pytest.approx((0.5 + 0.5 + 0) / 3, abs=1e-4)


def test_macro_f1_is_one_where_all_agrees() -> None:
    truth = torch.eye(3, dtype=torch.bool)
    assert macro_f1(truth, truth) == 1
