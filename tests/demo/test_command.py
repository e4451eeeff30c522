"""The demo on eight openings: every file, key and figure that it promises."""

from __future__ import annotations

import argparse
import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace

import pytest

from emokernel import EmotionVectors, Request, patch
from emokernel.cli import main
from emokernel.commands import demo as command
from emokernel.demo.model import SAMPLING, load_model, openings
from emokernel.demo.named import NAMED
from emokernel.demo.vectors import VECTORS_PATH, load_vectors
from emokernel.demo.wordlist import is_presentable
from emokernel.errors import FetchError
from emokernel.lab.measure.generation import Job, write
from emokernel.lab.report.parts import Table

OPENINGS, SEEDS = 8, 2
GRADED = "anger"  # the first of the vectors


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add(parser)
    return parser.parse_args([*arguments])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    (folder / "generations.jsonl").write_text("of an earlier run")
    plan = NAMED["embedded"].demo
    settings = replace(plan.settings, openings=OPENINGS, seeds=SEEDS)
    with redirect_stdout(io.StringIO()) as told:
        command.demo(
            parsed("embedded", "--output", str(folder)), replace(plan, settings=settings, rounds=2)
        )
    (folder / "told.txt").write_text(told.getvalue(), "utf-8")
    return folder


@pytest.fixture(scope="module")
def told(output):
    return (output / "told.txt").read_text("utf-8")


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
    for mode in ("unsteered", "vector"):
        points = [p for p in report["emotions"] if p["mode"] == mode]
        assert {p["emotion"] for p in points} == names
        for of in (p["measures"] for p in points):
            assert set(of["intended"]) == {"embedded-evaluation", "embedded-calibration"}
            assert of["texts"] == OPENINGS * SEEDS
            assert 0.0 < of["distinct"]["3"] <= 1.0
    rows = report["consistency"]
    assert {(row["mode"], row["judge"]) for row in rows} == {
        ("vector", judge) for judge in ("embedded-evaluation", "embedded-calibration")
    }
    assert all(len(row["states"]) == 12 and row["intensity"] == 1 for row in rows)
    notes = [judge["note"] for judge in report["about"]["judges"]]
    assert notes == ["", "It chose the strengths, so it is no witness for them."]


def test_texts_are_all_there(texts):
    names = load_vectors().names
    assert len(texts) == OPENINGS * SEEDS * (1 + 12 + len(names) + 3)
    assert {text["opening"] for text in texts} == set(openings()[:OPENINGS])
    graded = {text["name"] for text in texts if text.get("strength", 1) < 1}
    assert graded == {GRADED}
    assert len({text["answer"] for text in texts}) > 200


def test_nothing_is_read_that_is_not_shown(report, texts):
    """By the unsteered model, which costs more than writing."""
    assert not any("nats" in text for text in texts)
    for point in report["emotions"]:
        assert point["measures"]["perplexity"] is None
        assert point["measures"]["to_unsteered"]["mean"] is None
    assert report["about"].get("topic", {}) == {}


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


@pytest.mark.parametrize("name", NAMED)
def test_named_models_show_what_is_presentable_alone(name):
    assert NAMED[name].accept is is_presentable
    assert any("unpresentable" in note for note in NAMED[name].notes)


def test_pictures_are_drawn_and_times_are_told(output):
    for name in ("circumplex.png", "strengths.png", "latency.png"):
        content = (output / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000
    times = json.loads((output / "latency.json").read_text("utf-8"))["milliseconds"]
    assert set(times) == {"unpatched", "plain_hook", "emokernel"}
    assert all(value > 0 for value in times.values())


def test_an_earlier_run_is_set_aside(output):
    assert (output / "generations.jsonl.1").read_text() == "of an earlier run"


def test_the_first_thing_is_one_batch_of_many_moods(told):
    question, *lines = told.strip().split("\n\n")[:2]
    assert question == NAMED["embedded"].demo.question
    assert question in openings()
    moods = dict(line.split(maxsplit=1) for line in lines[0].splitlines())
    first, *names = moods
    assert first == "unsteered"
    assert len(names) == NAMED["embedded"].demo.emotions
    assert set(names) < set(load_vectors().names)
    assert len(set(moods.values())) > 6
    assert all(text.startswith(question) for text in moods.values())
    assert told.index("9 answers of at most 28 tokens in one batch") < told.index("Twelve states")


def test_what_is_printed_is_what_was_measured(told, report):
    for piece in (
        "330° (+0.87,",
        "Mean cosine of 192 texts: 0.",
        "Heard most often",
        "Time per token",
        "emokernel",
        "plain hook",
    ):
        assert piece in told
    for word in ("oal", "erdict", "Perplexity", "By prompt"):
        assert word not in told
    point = next(
        p for p in report["emotions"] if p["emotion"] == "gratitude" and p["mode"] == "vector"
    )
    shown = point["measures"]["intended"]["embedded-evaluation"]
    numbers = "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**shown)
    assert re.search(rf"gratitude .*{re.escape(numbers)}", told)


def test_one_emotion_rises_text_by_text(told, texts):
    part = told[told.index("Anger from 0 to 1") :]
    assert re.findall(r"^strength (\d.\d\d), mean \d", part, re.MULTILINE) == [
        "0.00", "0.25", "0.50", "0.75", "1.00",
    ]  # fmt: skip
    (last,) = (
        text
        for text in texts
        if (text.get("by"), text["name"], text.get("strength"), text["query"], text["seed"])
        == ("strength", GRADED, 1.0, openings()[0], 0)
    )
    shown = part[part.index("strength 1.00") :]
    assert f"this text {last['intended']['embedded-evaluation']:.2f}" in shown
    assert " ".join((last["opening"] + last["answer"]).split()[:8]) in " ".join(shown.split())


def test_the_page_has_it_all_and_no_verdict(output, report):
    page = (output / "report.html").read_text("utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert [heading.partition(":")[0] for heading in headings] == [
        "One question, one batch", "Twelve states", "One emotion from 0 to 1", "Emotions",
        "Time per token", "Samples", "What was measured", "Definitions",
    ]  # fmt: skip
    assert "Not measured" not in page
    assert "Goals" not in page
    assert report["goals"] == []


def test_steering_raises_the_intended_emotion(report):
    means = {
        mode: [
            point["measures"]["intended"]["embedded-evaluation"]["mean"]
            for point in report["emotions"]
            if point["mode"] == mode and point["strength"] in (0, 1)
        ]
        for mode in ("unsteered", "vector")
    }
    assert len(means["vector"]) == len(means["unsteered"])
    assert sum(means["vector"]) > 2 * sum(means["unsteered"])


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "smollm2"),
        (["embedded"], "embedded"),
        (["--model", "embedded"], "embedded"),
        (["some/folder", "--model", "some/folder"], "some/folder"),
    ],
)
def test_a_model_is_named_with_an_option_or_without(arguments, shown, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "demo", lambda chosen, plan: asked.append((chosen.model, plan)))
    command.run(parsed(*arguments, "--seeds", "2"))
    ((model, plan),) = asked
    assert model == shown
    assert plan.settings.seeds == 2
    assert plan.settings.openings == (60 if model == "embedded" else 7)


def test_two_models_are_refused(capsys):
    assert main(["demo", "one/folder", "--model", "embedded"]) == 2
    assert "one/folder or embedded" in capsys.readouterr().err


def test_vectors_of_another_model_are_refused_before_anything_is_written(tmp_path, capsys):
    vectors = load_vectors()
    other = {**vectors.provenance["fingerprint"], "vocab_size": 7}
    path = tmp_path / "other.safetensors"
    replace(vectors, provenance={**vectors.provenance, "fingerprint": other}).save(path)
    given = ["--vectors", str(path), "--output", str(tmp_path / "out")]
    assert main(["demo", "embedded", *given]) == 2
    told = capsys.readouterr()
    assert "--other-model" in told.err
    assert told.out == ""


def test_a_model_without_vectors_is_told_which_have_some(capsys):
    assert main(["demo", "smolm2"]) == 2
    assert "they ship for embedded, smollm2" in capsys.readouterr().err


def test_tables_and_texts_fit_a_narrow_terminal(capsys):
    row = ["330° (+0.87, −0.50)", "optimism 40 %, joy 30 %, gratitude 20 %", "0.91 [0.88, 0.94]"]
    part = Table("A caption of many words, " * 6, ["State", "Heard", "Cosine"], [row])
    command._print(part, 70)
    command._print_texts(
        Table("Rising", ["Strength", "Text"], [["1.00", "\x1b[2J" + "so " * 60]]), 70
    )
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 70
    assert "0.91 [0.88, 0.94]" in told
    assert "\x1b" not in told


def test_what_cannot_be_fetched_is_told_with_what_needs_nothing(capsys, monkeypatch):
    def unreachable(*_):
        raise FetchError("fetching it failed: no index")

    monkeypatch.setattr(command, "demo", unreachable)
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert "no index; `emokernel demo embedded` needs nothing that is fetched" in error


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
