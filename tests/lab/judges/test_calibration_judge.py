"""The judge of calibration that ships with the package, and how it is fitted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from embedded import calibration_judge as script
from embedded.calibration_judge import fit_regularised
from embedded.corpus import training_half
from embedded.judge import figures_or_train
from embedded.relabel import distributions

from emokernel.lab.judges.judge import Judge
from emokernel.lab.judges.linear_judge import (
    CALIBRATION_JUDGE_PATH,
    CalibrationJudge,
    LinearNetwork,
)

LABELS = ("joy", "anger", "neutral")
WORDS = "dog cat house garden street letter teacher doctor brother sister".split()
SAYING = (("happy", ("joy",)), ("angry", ("anger",)), ("here", ("neutral",)),
          ("torn", ("joy", "anger")))  # fmt: skip


@pytest.fixture(scope="module")
def judge() -> CalibrationJudge:
    return CalibrationJudge.load()


@pytest.fixture(scope="module")
def sentences() -> tuple[list[str], torch.Tensor]:
    """Texts of three labels in unequal shares, some with two, and their distributions."""
    pairs = [
        (f"The {one} is {word} with the {other}.", emotions)
        for word, emotions in SAYING
        for one in WORDS[: len(emotions[0]) + 2]
        for other in WORDS
    ]
    return [text for text, _ in pairs], distributions([names for _, names in pairs], LABELS)


def test_it_ships_small(judge: CalibrationJudge) -> None:
    assert judge.labels == Judge.load().labels
    assert sum(file.stat().st_size for file in CALIBRATION_JUDGE_PATH.iterdir()) <= 2_500_000


@pytest.mark.parametrize(
    ("texts", "label"),
    [
        (["I went home.", "I was sad and went home.", "I was so sad, I cried and went home."],
         "sadness"),
        (["He is at the door.", "He is scared at the door.",
          "He is scared and terrified at the door."], "fear"),
        (["You did it.", "Thank you, you did it.", "Thank you so much, you did it, thanks!"],
         "gratitude"),
    ],
)  # fmt: skip
def test_more_emotion_is_more_probable(
    judge: CalibrationJudge, texts: list[str], label: str
) -> None:
    weak, some, strong = judge.probabilities(texts)[:, judge.labels.index(label)].tolist()
    assert weak < some < strong


def test_stored_figures(judge: CalibrationJudge) -> None:
    settings = json.loads((CALIBRATION_JUDGE_PATH / "judge.json").read_text("utf-8"))
    for part in ("dev", "test"):
        assert settings[part].keys() == settings["definitions"].keys()
        assert settings[part]["accuracy_any_label"] > 0.55
        assert settings[part]["calibration_error"] < 0.08


def test_missing_judge_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"embedded\.calibration_judge"):
        CalibrationJudge.load(tmp_path)


@pytest.mark.parametrize("rarity", [0.0, 0.7])
def test_fit_gives_each_label_its_share(sentences, rarity: float) -> None:
    # The optimality condition of the free bias: mean probabilities are the shares of the labels.
    texts, targets = sentences
    network = LinearNetwork(len(LABELS), buckets=1 << 10)
    fit_regularised(network, texts, targets, c=1.0, rarity=rarity)
    probabilities = CalibrationJudge([network], LABELS).probabilities(texts)
    assert targets.mean(0).amax() - targets.mean(0).amin() > 0.05
    torch.testing.assert_close(probabilities.mean(0), targets.mean(0), atol=2e-3, rtol=0)
    single = targets.amax(1) == 1
    assert torch.equal(probabilities[single].argmax(1), targets[single].argmax(1))


def test_a_smaller_c_is_more_cautious(sentences) -> None:
    texts, targets = sentences
    most = []
    for c in (0.01, 1.0):
        network = LinearNetwork(len(LABELS), buckets=1 << 10)
        fit_regularised(network, texts, targets, c=c, rarity=0.5)
        judge = CalibrationJudge([network], LABELS)
        most.append(judge.probabilities(texts).amax(1).mean().item())
    assert most[0] < most[1] - 0.05


def test_a_label_without_text_is_refused(sentences) -> None:
    texts, targets = sentences
    with pytest.raises(ValueError, match="every label needs a text"):
        fit_regularised(
            LinearNetwork(4, buckets=64), texts, torch.nn.functional.pad(targets, (0, 1)), c=1,
            rarity=0,
        )  # fmt: skip


def test_script_fits_the_half_that_the_other_judge_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "goemotions"
    folder.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS))
    rows = [
        f"The {one} is {word} with the {other}.\t{','.join(str(LABELS.index(n)) for n in names)}\t"
        for word, names in SAYING
        for one in WORDS
        for other in WORDS
    ]
    for part, chosen in (("train", rows), ("dev", rows[::7]), ("test", rows[::11])):
        lines = [f"{row}{part}{number}" for number, row in enumerate(chosen)]
        (folder / f"{part}.tsv").write_text("\n".join(lines))
    seen = []
    fitted = script.fit_regularised

    def recorded(network, texts, targets, **options) -> None:
        seen.append((set(texts), options["c"]))
        fitted(network, texts, targets, **options)

    monkeypatch.setattr(script, "fit_regularised", recorded)
    monkeypatch.setattr(script, "BUCKETS", 512)
    monkeypatch.setattr(script, "PENALTIES", ((0.001, 0.5), (2.0, 0.5)))
    command = f"x --data {tmp_path} --out {tmp_path / 'out'}"
    monkeypatch.setattr(sys, "argv", command.split())
    figures_or_train(script.__doc__, CalibrationJudge, script.train)
    comments = {example.text for example in training_half(tmp_path, "language")}
    assert seen == [(comments, 0.001), (comments, 2.0)]
    assert comments
    assert comments.isdisjoint(example.text for example in training_half(tmp_path, "judge"))
    settings = json.loads((tmp_path / "out" / "judge.json").read_text("utf-8"))
    assert settings["penalty"] == {"c": 2.0, "rarity": 0.5}
    assert settings["training_rows"] == len(comments)
    judge = CalibrationJudge.load(tmp_path / "out")
    assert judge.labels[int(judge.probabilities(["They are happy."])[0].argmax())] == "joy"
    # Of the test rows; those that are "torn" have two labels.
    single = {name: sum(f" is {word} " in row for row in rows[::11])
              for word, (name, *more) in SAYING if not more}  # fmt: skip
    counts = settings["confusion"]
    assert {name: sum(tops.values()) for name, tops in counts.items()} == single
    assert counts["joy"]["joy"] == single["joy"]
    weights = (tmp_path / "out" / "judge.safetensors").read_bytes()
    known = (tmp_path / "out" / "judge.json").read_text("utf-8")
    (tmp_path / "out" / "judge.json").write_text(known.replace('"confusion"', '"unknown"'), "utf-8")
    monkeypatch.setattr(sys, "argv", [*command.split(), "--figures-only"])
    figures_or_train(script.__doc__, CalibrationJudge, script.train)
    assert len(seen) == 2
    assert (tmp_path / "out" / "judge.safetensors").read_bytes() == weights
    again = json.loads((tmp_path / "out" / "judge.json").read_text("utf-8"))
    assert again.pop("unknown") == counts
    assert again == settings
