"""The demo on eight openings: every file, key and figure that it promises."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest

from emokernel import EmotionVectors, Request, patch
from emokernel.commands.demo import demo
from emokernel.demo.model import SAMPLING, load_model, openings
from emokernel.demo.vectors import VECTORS_PATH, load_vectors
from emokernel.demo.wordlist import is_presentable
from emokernel.lab.measure.generation import Job, write

OPENINGS, SEEDS = 8, 2
MODES = {"unsteered", "prompt", "vector"}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    (folder / "generations.jsonl").write_text("of an earlier run")
    with redirect_stdout(io.StringIO()) as told:
        demo(folder, SEEDS, OPENINGS, rounds=2)
    (folder / "told.txt").write_text(told.getvalue(), "utf-8")
    return folder


@pytest.fixture(scope="module")
def report(output):
    return json.loads((output / "results.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def texts(output):
    lines = (output / "generations.jsonl").read_text("utf-8").splitlines()[1:]
    values = [json.loads(line)["value"] for line in lines]
    return [value for value in values if isinstance(value, dict) and "answer" in value]


def test_results_are_of_every_emotion_and_state(report):
    names = set(load_vectors().names)
    assert len(names) >= 10
    assert {"anger", "disgust", "fear", "joy", "sadness", "surprise"} <= names
    for mode in MODES:
        points = {p["emotion"]: p["measures"] for p in report["emotions"] if p["mode"] == mode}
        assert set(points) == names
        for of in points.values():
            assert set(of["intended"]) == {"embedded-evaluation", "embedded-calibration"}
            assert of["texts"] == OPENINGS * SEEDS
            assert 0.0 < of["distinct"]["3"] <= 1.0
            assert of["perplexity"] > 1.0
    rows = report["consistency"]
    assert {(row["mode"], row["judge"]) for row in rows} == {
        (mode, judge)
        for mode in ("prompt", "vector", "both")
        for judge in ("embedded-evaluation", "embedded-calibration")
    }
    assert all(len(row["states"]) == 12 and row["intensity"] == 1 for row in rows)
    assert [goal["name"] for goal in report["goals"]]
    notes = [judge["note"] for judge in report["about"]["judges"]]
    assert notes == ["", "It chose the strengths, so it is no witness for them."]


def test_texts_are_all_there(texts):
    assert len(texts) == OPENINGS * SEEDS * (1 + 3 * 12 + 2 * len(load_vectors().names))
    assert {text["opening"] for text in texts} == set(openings()[:OPENINGS])
    steered = {text["answer"] for text in texts if text["mode"] == "vector"}
    assert len(steered) > 200


def test_texts_are_presentable(texts):
    whole = [text["opening"] + text["answer"] for text in texts]
    assert [text for text in whole if not is_presentable(text)] == []


@pytest.mark.parametrize("emotion", ["anger", "disgust", "fear"])
def test_generations_at_twice_full_strength_are_presentable(emotion):
    model, tokenizer = load_model()
    steering = patch(model, load_vectors())
    jobs = [Job(opening, Request(emotion, 2.0)) for opening in openings()]
    options = {"sampling": SAMPLING, "accept": is_presentable}
    batches = write(model, tokenizer, steering, jobs, 5, **options)
    texts = [one.text for batch in batches for one in batch]
    assert len(set(texts)) > 40
    assert [text for text in texts if not is_presentable(text)] == []


def test_pictures_are_drawn_and_times_are_told(output):
    for name in ("circumplex.png", "latency.png"):
        content = (output / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000
    times = json.loads((output / "latency.json").read_text("utf-8"))["milliseconds"]
    assert set(times) == {"unpatched", "plain_hook", "emokernel"}
    assert all(value > 0 for value in times.values())


def test_an_earlier_run_is_set_aside(output):
    assert (output / "generations.jsonl.1").read_text() == "of an earlier run"


def test_what_is_printed_has_samples_tables_and_goals(output):
    told = (output / "told.txt").read_text("utf-8")
    assert openings()[0] in told
    for piece in (
        "gratitude", "Distinct\N{NON-BREAKING HYPHEN}3", "330°", "By prompt and vector",
        "ceiling (GoEmotions test", "Measured, and what was asked:", "Time per token",
    ):  # fmt: skip
        assert piece in told


def test_steering_raises_the_intended_emotion(report):
    means = {
        mode: sum(
            point["measures"]["intended"]["embedded-evaluation"]["mean"]
            for point in report["emotions"]
            if point["mode"] == mode
        )
        for mode in ("unsteered", "vector")
    }
    assert means["vector"] > 2 * means["unsteered"]


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
