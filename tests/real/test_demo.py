"""The demo of the chat model, on two questions: every mood answers, and is heard."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest

from emokernel.commands import demo as command
from emokernel.commands import models
from emokernel.demo.named import QUESTION, named
from emokernel.demo.wordlist import is_presentable
from emokernel.lab.measure.sampling import Sampling


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    parser = argparse.ArgumentParser()
    command.add(parser)
    chosen = parser.parse_args(["--dtype", "bfloat16", "--output", str(folder)])
    plan = named(chosen.model).demo
    settings = replace(plan.settings, openings=2, seeds=1, sampling=Sampling(20))
    command.demo(chosen, replace(plan, settings=settings, rounds=2))
    return folder


def test_the_vectors_that_ship_are_found_by_name_and_are_the_models(smollm2):
    chosen = argparse.Namespace(model="smollm2", vectors=None)
    vectors = models.needed_vectors(chosen, "speak with")
    config = smollm2[0].config
    assert (vectors.num_layers, vectors.hidden_size) == (
        config.num_hidden_layers,
        config.hidden_size,
    )
    assert len(vectors.names) >= 15
    assert {"anger", "disgust", "fear", "joy", "sadness", "surprise"} <= set(vectors.names)
    assert vectors.calibration.record["judge"] == "listener"
    assert any("listener" in note for note in named("smollm2").own_notes)


def test_the_transformer_hears_the_moods(output):
    results = json.loads((output / "results.json").read_text("utf-8"))
    assert results["about"]["judges"][0]["name"] == "goemotions-minilm"
    means = {"unsteered": [], "vector": []}
    for point in results["emotions"]:
        judged = point["measures"]["intended"].get("goemotions-minilm")
        if judged is not None and point["strength"] in (0, 1):
            means[point["mode"]].append(judged["mean"])
    assert len(means["vector"]) == len(means["unsteered"]) >= 15
    assert sum(means["vector"]) > 1.5 * sum(means["unsteered"])


def test_nothing_is_shown_that_one_would_not_show(output):
    lines = (output / "generations.jsonl").read_text("utf-8").splitlines()[1:]
    texts = [json.loads(line)["value"]["answer"] for line in lines]
    assert len(set(texts)) > 50
    assert [text for text in texts if not is_presentable(text)] == []
    page = (output / "report.html").read_text("utf-8")
    assert QUESTION in page
    assert all((output / name).is_file() for name in ("circumplex.png", "latency.json"))
