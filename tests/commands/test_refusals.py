"""What is wrong with a command is told before a model is loaded, and nothing is left behind."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
import transformers

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.commands import arguments
from emokernel.demo.vectors import load_vectors
from emokernel.lab.judges import load_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With files of vectors and of much else; no test may change it."""
    tmp_path = tmp_path_factory.mktemp("refusals")
    embedded = load_vectors().with_calibration(None)
    embedded.save(tmp_path / "v.safetensors")
    embedded.select(["anger"]).save(tmp_path / "anger.safetensors")
    for name, tensor in (("small", torch.ones(2, 4)), ("zero", torch.zeros(6, 384))):
        EmotionVectors.from_tensors({"joy": tensor}).save(tmp_path / f"{name}.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\0" * 40)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "v.safetensors.partial").mkdir(parents=True)
    (tmp_path / "full" / "w.safetensors.partial").write_text("")
    begun = {"settings": {"kind": "answers", "site": "block", "vectors": "others"}}
    for name in ("begun/v.safetensors.partial/journal.jsonl", "begun/generations.jsonl",
                 "begun/c.safetensors.calibration.partial"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(begun) + "\n")
    (tmp_path / "one.txt").write_text("Only one?\n")
    return tmp_path


@cache
def judge(name: str):
    """Each is loaded once."""
    return load_classifier(name)


@pytest.fixture
def here(folder, monkeypatch):
    """The folder to work in; whatever loads a model fails."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def loaded(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", loaded)
    monkeypatch.setattr(arguments, "load_classifier", lambda name, labels: judge(name))
    return folder


EXTRACT = ["extract", "embedded", "-o"]
CALIBRATE = ["calibrate", "embedded", "--vectors", "v.safetensors"]
EVALUATE = ["evaluate", "embedded", "--vectors", "v.safetensors"]
BENCH, VERIFY = ["bench", "embedded"], ["verify", "embedded"]
SERVE = ["serve", "embedded", "--vectors"]
NOT_THERE = "no such file of emotion vectors"

REFUSED = [
    # formats that cannot hold it
    ([*EXTRACT, "two.gguf", "--emotions", "joy,anger"], "a .gguf file holds one emotion"),
    ([*EXTRACT, "two.json", "--emotions", "joy,anger"], "a .json file holds one emotion"),
    ([*EXTRACT, "two.npy", "--emotions", "joy,anger"], "a .npy file holds one emotion"),
    ([*CALIBRATE, "-o", "v.gguf"], "cannot hold a calibration"),
    ([*CALIBRATE, "-o", "v.json"], "cannot hold a calibration"),
    (["convert", "v.safetensors", "two.npy"], "a .npy file holds one emotion"),
    (["convert", "v.safetensors", "new/two.gguf"], "a .gguf file holds one emotion"),
    (["convert", "v.safetensors", "v.npz", "--model-hint", "llama"], "leave --model-hint out"),
    # places that cannot be written to
    ([*EXTRACT, "folder"], "folder is a folder: name a file"),
    ([*EXTRACT, "file/v.safetensors"], "file is a file, so file/v.safetensors cannot be made"),
    ([*EXTRACT, "/proc/v.safetensors"], "nothing can be written to /proc"),
    ([*EXTRACT, "full/w.safetensors"], "w.safetensors.partial is a file"),
    ([*EXTRACT, "v.npz", "--plot", "x.sing"], "does not end in a kind of picture"),
    ([*EXTRACT, "v.npz", "--plot", "folder"], "does not end in a kind of picture"),
    ([*EXTRACT, "v.png", "--plot", "v.png"], "--plot and --output are both v.png"),
    ([*CALIBRATE, "-o", "file/v.safetensors"], "file is a file"),
    ([*CALIBRATE, "-o", "/proc/v.safetensors"], "nothing can be written to /proc"),
    ([*EVALUATE, "-o", "file"], "file is a file: name a folder"),
    ([*EVALUATE, "-o", "file/out"], "file is a file"),
    ([*BENCH, "-o", "file"], "file is a file: name a folder"),
    ([*BENCH, "-o", "/proc/out"], "nothing can be written to /proc"),
    (["demo", "--output", "file"], "file is a file: name a folder"),
    (["demo", "--output", "/proc/demo"], "nothing can be written to /proc"),
    (["convert", "v.safetensors", "file/v.npz"], "file is a file"),
    (["convert", "v.safetensors", "/proc/v.npz"], "nothing can be written to /proc"),
    (["show", "v.safetensors", "--plot", "v.sing"], "does not end in a kind of picture"),
    (["show", "v.safetensors", "--plot", "file/v.png"], "file is a file"),
    # unknown names, and options out of range
    ([*EXTRACT, "v.npz", "--emotions", "joyy"], "joyy"),
    ([*EXTRACT, "v.npz", "--emotions", "joy,"], "--emotions needs names such as joy,anger"),
    ([*EXTRACT, "v.npz", "--emotions", "pride"], "has no token '<|pride|>'"),
    ([*EXTRACT, "v.npz", "--site", "mlp"], "unknown site 'mlp'"),
    ([*EXTRACT, "v.npz", "--layers", "4-9"], "layers must be numbers from 0 to 5"),
    ([*EXTRACT, "v.npz", "--temperature", "-1"], "temperature must be at least 0"),
    ([*EXTRACT, "v.npz", "--top-p", "nan"], "top_p above 0"),
    ([*EXTRACT, "v.npz", "--seed", "-1"], "seed must be at least 0"),
    ([*EXTRACT, "v.npz", "--conditioning", "chat"], "no chat template"),
    ([*EXTRACT, "v.npz", "--emotions", "joy", "--remove-base", "1"], "a single emotion is all"),
    ([*EVALUATE, "--emotions", "bliss"], "unknown emotion 'bliss'"),
    ([*EVALUATE, "--emotions", "anger", "--mapping", "axes"], "are fewer than 3"),
    ([*EVALUATE, "--templates", "sung"], "no template 'sung'"),
    ([*EVALUATE, "--label", "bliss=joy"], "unknown emotion 'bliss'"),
    ([*EVALUATE, "--label", "anger=bliss"], "unknown emotion 'bliss'"),
    ([*EVALUATE, "--judge", "embedded-nobody"], "no classifier 'embedded-nobody'"),
    ([*EVALUATE, "--questions", "one.txt"], "there are 1 questions"),
    ([*EVALUATE, "--strengths", "0"], "strength 1"),
    ([*EVALUATE, "--coordinates", "nowhere.json"], "nowhere.json"),
    ([*CALIBRATE, "--label", "bliss=joy"], "unknown emotion 'bliss'"),
    ([*CALIBRATE, "--label", "anger=bliss"], "unknown emotion 'bliss'"),
    ([*CALIBRATE, "--judge", "embedded-evaluation"], "calibrate with another judge"),
    ([*CALIBRATE, "--max-perplexity", "0.5"], "perplexity above 1"),
    ([*CALIBRATE, "--min-distinct", "nan"], "distinct and repetition above 0"),
    ([*CALIBRATE, "--coordinates", "nowhere.json"], "nowhere.json"),
    ([*CALIBRATE, "--queries", "nowhere.json"], "nowhere.json"),
    ([*BENCH, "--variants", "fast"], "unknown variant 'fast'"),
    ([*BENCH, "--new-tokens", "1"], "--new-tokens must be at least 2"),
    ([*BENCH, "--batch-sizes", "9", "--mixes", "different", "--slots", "8"], "9 different mixes"),
    ([*BENCH, "--vectors", "anger.safetensors", "--mixes", "blends"], "but there is 1 emotion"),
    ([*BENCH, "--compile-backend", "abacus"], "no backend 'abacus'"),
    ([*VERIFY, "--skip", "singing"], "unknown check singing"),
    ([*VERIFY, "--compile-backend", "abacus"], "no backend 'abacus'"),
    # options that contradict each other
    ([*EXTRACT, "v.npz", "--emotional-template", "{emotion} {query}"], "go together: give both"),
    ([*EXTRACT, "v.npz", "--rows", "joy=0:5"], "--rows are of a file"),
    ([*EXTRACT, "v.npz", "--label-column", "x", "--split", "test"], "--label-column, --split are"),
    ([*EXTRACT, "v.npz", "--queries", "one.txt", "--split", "test"], "--split is of a data set"),
    ([*EXTRACT, "v.npz", "--texts", "nowhere.tsv"], "nowhere.tsv"),
    (["calibrate", "embedded", "--vectors", "v.safetensors", "small.safetensors"],
     "say where the best one goes"),
    # vectors that cannot be read, or are of another model
    *(
        ([*command, *([] if command is SERVE else ["--vectors"]), name], told)
        for command in (["calibrate", "embedded"], ["evaluate", "embedded"], BENCH, SERVE)
        for name, told in (
            ("nothing.safetensors", NOT_THERE),
            ("damaged.safetensors", "damaged"),
            ("small.safetensors", "these vectors belong to another model"),
        )
    ),
    ([*VERIFY, "--vectors", "nothing.safetensors"], NOT_THERE),
    ([*VERIFY, "--vectors", "damaged.safetensors"], "damaged"),
    (["calibrate", "embedded", "--vectors", "zero.safetensors"], "zero in every layer"),
    (["show", "nothing.safetensors"], NOT_THERE),
    # runs that were begun otherwise
    ([*EXTRACT, "begun/v.safetensors"], "begun with other settings"),
    ([*CALIBRATE, "-o", "begun/c.safetensors"], "begun with other settings"),
    ([*EVALUATE, "-o", "begun"], "begun with other settings"),
    # what is no model
    *(
        ([*command], told)
        for model, told in (
            ("nowhere/at/all", "there is no such folder"),
            ("./nowhere", "there is no such folder"),
            ("empty", "it has no config.json"),
            ("v.safetensors", "a single file"),
        )
        for command in (
            ["extract", model, "-o", "w.safetensors"],
            ["calibrate", model, "--vectors", "v.safetensors", "-o", "w.safetensors"],
            ["evaluate", model, "--vectors", "v.safetensors"],
            ["bench", model],
            ["verify", model],
            ["serve", model, "--vectors", "v.safetensors"],
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "told"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_it_is_refused_before_a_model_is_loaded(arguments, told, here, capsys):
    if arguments[0] == "serve":
        pytest.importorskip("fastapi")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("emokernel: ")
    assert told in lines[-1]
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
