"""The demo on eight openings: every file, key and figure that it promises."""

from __future__ import annotations

import json

import pytest

from emokernel import EmotionVectors, Request, patch
from emokernel.demo.clean import is_presentable
from emokernel.demo.command import demo
from emokernel.demo.experiment import SAMPLING
from emokernel.demo.model import load_model, openings
from emokernel.demo.vectors import VECTORS_PATH, load_vectors
from emokernel.evaluate.generation import Job, write

CONDITIONS = {"unsteered", "steered", "prefix"}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo(folder, seeds=2, chosen=openings()[:8], rounds=2)
    return folder


@pytest.fixture(scope="module")
def report(output):
    return json.loads((output / "report.json").read_text("utf-8"))


def test_report_has_its_keys(report):
    names = set(load_vectors().names)
    assert len(names) >= 10
    assert {"anger", "disgust", "fear", "joy", "sadness", "surprise"} <= names
    assert set(report["emotions"]) == names
    for of in report["emotions"].values():
        assert set(of) == CONDITIONS
        assert all(0.0 <= value <= 1.0 for value in of.values())
    assert set(report["fluency"]) == CONDITIONS
    for of in report["fluency"].values():
        assert 0.0 < of["distinct_3"] <= 1.0
        assert of["perplexity"] > 1.0
    assert len(report["states"]) == 12
    cosines = [state["cosine"] for state in report["states"]]
    assert all(-1.0 <= value <= 1.0 for value in cosines)
    assert report["mean_cosine"] == pytest.approx(sum(cosines) / 12)
    assert set(report["latency_ms"]) == {"unpatched", "plain_hook", "emokernel"}
    assert all(value > 0 for value in report["latency_ms"].values())
    assert report["machine"]
    assert report["versions"]


def test_intervals_hold_their_means(report):
    for emotion, of in report["intervals_95"].items():
        for condition, (low, high) in of.items():
            assert low <= report["emotions"][emotion][condition] <= high


def test_generations_are_all_there(output, report):
    lines = (output / "generations.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    emotions = len(report["emotions"])
    assert len(rows) == 2 * 8 * (1 + 2 * emotions + 12)
    assert set(rows[0]) == {"emotion", "condition", "seed", "opening", "text"}
    assert all(row["text"].startswith(row["opening"]) for row in rows)
    steered = {row["text"] for row in rows if row["condition"] == "steered"}
    assert len(steered) > 0.8 * 2 * 8 * emotions


def test_generations_are_presentable(output):
    lines = (output / "generations.jsonl").read_text("utf-8").splitlines()
    assert [text for text in map(json.loads, lines) if not is_presentable(text["text"])] == []


@pytest.mark.parametrize("emotion", ["anger", "disgust", "fear"])
def test_generations_at_twice_full_strength_are_presentable(emotion):
    model, tokenizer = load_model()
    steering = patch(model, load_vectors())
    jobs = [Job(emotion, "steered", opening, Request(emotion, 2.0)) for opening in openings()]
    options = {"sampling": SAMPLING, "accept": is_presentable}
    batches = write(model, tokenizer, steering, jobs, 5, **options)
    texts = [one.text for batch in batches for one in batch]
    assert len(set(texts)) > 40
    assert [text for text in texts if not is_presentable(text)] == []


def test_pictures_are_drawn(output):
    for name in ("circumplex.png", "latency.png"):
        content = (output / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000


def test_steering_raises_the_intended_emotion(report):
    of = report["emotions"].values()
    assert sum(e["steered"] for e in of) > 2 * sum(e["unsteered"] for e in of)


def test_openings_are_enough_and_fixed():
    assert len(openings()) >= 50
    assert len(set(openings())) == len(openings())


def test_shipped_vectors_say_where_they_are_from():
    vectors = EmotionVectors.load(VECTORS_PATH)
    model, _ = load_model()
    assert (vectors.num_layers, vectors.hidden_size) == (
        model.config.num_hidden_layers,
        model.config.hidden_size,
    )
    calibration = vectors.calibration
    for strengths in calibration.strengths.values():
        assert set(strengths) == set(vectors.names)
        assert all(strength > 0 for strength in strengths.values())
    assert calibration.record["judge"] == "embedded-calibration"
    for key in ("model", "data", "method", "counts", "versions"):
        assert vectors.provenance[key]
