"""The transformer judge on its true base."""

from __future__ import annotations

import json

import pytest
import torch

from emokernel.cli import main
from emokernel.lab.judges import TRANSFORMER, load_classifier
from emokernel.lab.measure.sentences import ENCODER, SentenceEncoder

SENTENCES = {
    "Thank you so much for coming all this way, I really appreciate it.": "gratitude",
    "I am terrified of what they will do to us tonight.": "fear",
    "I adore you, and I always will.": "love",
    "What a brilliant piece of work, you should be praised for it!": "admiration",
    "I'm furious, how dare they treat her like that!": "anger",
    "My dog died this morning and I can't stop crying.": "sadness",
    "Haha, that is the funniest thing I have seen all week.": "amusement",
    "I'm so sorry, it was my fault and I should have called you.": "remorse",
    "Wow, I did not expect that at all!": "surprise",
    "I wonder how they built it, does anybody know?": "curiosity",
    "That smell is revolting, it makes me want to throw up.": "disgust",
    "I hope that next year will be better for all of us.": "optimism",
    "Water boils at a hundred degrees.": "neutral",
    "This is the happiest day of my life!": "joy",
}


@pytest.fixture(scope="module")
def judge():
    return load_classifier(TRANSFORMER, device="cpu")


def test_obvious_sentences(judge):
    tops = judge.probabilities(list(SENTENCES)).argmax(1).tolist()
    found = [judge.labels[top] for top in tops]
    wrong = [pair for pair in zip(SENTENCES, found, strict=True) if SENTENCES[pair[0]] != pair[1]]
    assert len(wrong) <= 2, wrong  # to adore and to be revolted have near neighbours


def test_the_batch_changes_nothing(judge):
    texts = list(SENTENCES)
    alone = torch.cat([judge.probabilities([text]) for text in texts])
    assert judge.probabilities(texts).sub(alone).abs().max() < 1e-5


def test_it_evaluates_by_name(tmp_path):
    command = "--openings 3 --seeds 1 --strengths 1 --intensities 1 --doses --emotions joy fear"
    assert main(["evaluate", "embedded", "-o", str(tmp_path), "--judge", TRANSFORMER,
                 "--second-judge", "embedded-evaluation", *command.split()]) == 0  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert {each["judge"] for each in results["ceilings"]} == {TRANSFORMER, "embedded-evaluation"}
    assert [row["emotion"] for row in results["judged"]] == ["joy", "fear"]
    assert set(results["judged"][0]["separation"]) == {TRANSFORMER, "embedded-evaluation"}
    assert "Each emotion as both judges read it" in (tmp_path / "report.md").read_text("utf-8")


def test_sentences_about_the_same_are_near_each_other_and_of_length_one():
    encoder = SentenceEncoder.fetched(ENCODER)
    assert encoder.name == "sentence-transformers/all-MiniLM-L6-v2"
    first, same, other = encoder([
        "How do I get over losing my job?", "Being laid off is hard, and it takes time to recover.",
        "The train to the coast leaves at seven.",
    ])  # fmt: skip
    assert first @ first == pytest.approx(1)
    assert first @ same > 0.35 > first @ other + 0.2
