"""`emokernel evaluate`: the embedded model in small, and what a newcomer gets wrong."""

from __future__ import annotations

import json

import pytest
from lab.evaluate.conftest import Words
from transformers import BertConfig, BertForSequenceClassification

from emokernel.cli import main
from emokernel.commands import evaluate as command
from emokernel.demo.model import load_model
from emokernel.demo.named import named
from emokernel.demo.vectors import load_vectors
from emokernel.lab.evaluate.evaluation import GENERATIONS

SMALL = [
    "--openings", "4", "--seeds", "2", "--strengths", "1", "--intensities", "1",
    "--doses", "0.3", "--emotions", "joy", "fear",
]  # fmt: skip


def evaluate(folder, *options):
    """The model, if any, comes first; what ``options`` say replaces what is in `SMALL`."""
    first = [] if not options or options[0].startswith("-") else [options[0]]
    return main(["evaluate", *first, "-o", str(folder), *SMALL, *options[len(first) :]])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    assert evaluate(folder) == 0
    return folder


def test_it_writes_texts_and_a_report(output):
    results = json.loads((output / "results.json").read_text("utf-8"))
    assert results["about"]["vectors"]["emotions"] == ["joy", "fear"]
    assert results["about"]["settings"]["openings"] == 4
    assert any("follows no instructions" in note for note in results["about"]["notes"])
    assert [row["mode"] for row in results["consistency"][::2]] == ["vector", "prompt", "both"]
    assert {ceiling["judge"] for ceiling in results["ceilings"]} == {
        "embedded-evaluation",
        "embedded-calibration",
    }
    assert {law["divergence"] for law in results["laws"]} == {0.3}
    lines = (output / GENERATIONS).read_text("utf-8").splitlines()
    settings = json.loads(lines[0])["settings"]
    assert settings["sampling"] == [28, 0.8, 0.9]
    page = (output / "report.html").read_text("utf-8")
    assert "joy" in page


def test_the_same_command_goes_on(output, capsys):
    before = (output / GENERATIONS).read_text("utf-8")
    assert evaluate(output) == 0
    assert (output / GENERATIONS).read_text("utf-8") == before
    assert "Measured, and what was asked:" in capsys.readouterr().out


def test_a_sentence_encoder_reads_where_it_is_asked_for_or_belongs_to_the_model(
    output, monkeypatch
):
    fetched = []

    def encoder(weights):
        fetched.append(weights)
        return Words()

    monkeypatch.setattr(command.SentenceEncoder, "fetched", encoder)
    assert evaluate(output) == 0
    assert fetched == [], "the embedded model needs no network"
    assert "sentences" not in json.loads((output / "results.json").read_text("utf-8"))["about"]
    assert evaluate(output, "--sentences", "minilm") == 0
    assert fetched == ["minilm"]
    about = json.loads((output / "results.json").read_text("utf-8"))["about"]
    assert about["sentence encoder"] == "words counted"
    assert "Topic kept" in (output / "report.html").read_text("utf-8")
    assert named("smollm2").sentences == "minilm"


def test_a_folder_of_another_run_is_left_alone(output, capsys):
    before = (output / GENERATIONS).read_text("utf-8")
    assert evaluate(output, "--max-new-tokens", "9") == 2
    assert "begun with other settings: sampling" in capsys.readouterr().err
    assert (output / GENERATIONS).read_text("utf-8") == before


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The embedded model's weights with a chat template."""
    folder = tmp_path_factory.mktemp("chat")
    model, tokenizer = load_model()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    load_vectors().save(folder / "vectors.safetensors")
    return folder


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    """A classifier whose labels are numbers."""
    folder = tmp_path_factory.mktemp("nameless")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=4096, intermediate_size=16, num_labels=3, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    load_model()[1].save_pretrained(folder)
    return folder


def test_a_chat_model_is_asked_questions_and_judged_by_a_classifier_with_named_labels(
    chat, nameless, tmp_path
):
    questions = tmp_path / "questions.txt"
    questions.write_text("What is a home?\nWhat is rain?\nWhat is a day?\nWhat is bread?\n")
    human = tmp_path / "human.tsv"
    human.write_text("text\tlabel\nso happy\tjoy\nso afraid\tfear\n")
    labels = [f"LABEL_{n}={name}" for n, name in enumerate(("joy", "fear", "neutral"))]
    options = [option for each in labels for option in ("--second-judge-label", each)]
    code = evaluate(
        tmp_path / "out", str(chat), "--vectors", str(chat / "vectors.safetensors"),
        "--second-judge", str(nameless), *options, "--human", str(human), "--emotions", "joy",
        "--questions", str(questions), "--templates", "values", "--max-new-tokens", "24",
        "--seeds", "1", "--doses",
    )  # fmt: skip
    assert code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    templates = {(row["mode"], row["template"]) for row in results["consistency"]}
    assert templates == {("vector", ""), ("prompt", "values"), ("both", "values")}
    assert results["about"]["model"]["asked by"] == "chat"
    assert {ceiling["source"] for ceiling in results["ceilings"]} == {str(human)}
    keys = [
        json.loads(line)["key"]
        for line in (tmp_path / "out" / GENERATIONS).read_text("utf-8").splitlines()[1:]
    ]
    assert any(key.endswith("What is a home?") for key in keys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vectors", "missing.safetensors"], "no such file of emotion vectors"),
        (["gpt2"], "no vectors to evaluate: give a file with --vectors"),
        (["--emotions", "bliss"], "unknown emotion 'bliss'"),
        (["--judge", "embedded-calibration"], "both judges are 'embedded-calibration'"),
        (
            ["--judge", "embedded-calibration", "--second-judge", "none"],
            "has chosen these strengths",
        ),
        (["--judge", "embedded"], "no classifier 'embedded'"),
        (["--judge", "missing/judge"], "cannot load the judge missing/judge"),
        (["--judge-label", "LABEL_0=joy"], "leave out revision, labels"),
        (["--judge-label", "joy"], "--judge-label needs LABEL=NAME, got 'joy'"),
        (["--label", "joy"], "--label needs EMOTION=LABEL, got 'joy'"),
        (["--questions", "missing.txt"], "no such file of questions"),
        (["--human", "missing.tsv"], "no such file of labelled texts"),
        (["--templates", "sung"], "no template 'sung'"),
        (["--intensities", "0.5"], "about intensity 1 and strength 1"),
        (["--coordinates", "missing.json"], "missing.json"),
    ],
)
def test_what_a_newcomer_gets_wrong_is_one_line(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert evaluate(tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert error[-1].startswith("emokernel: ")
    assert not (tmp_path / "out" / GENERATIONS).exists()


def test_a_classifier_without_names_is_told_with_what_to_do(nameless, tmp_path, capsys):
    assert evaluate(tmp_path / "out", "--judge", str(nameless)) == 2
    assert "--judge-label LABEL_0=joy" in capsys.readouterr().err


def test_too_little_text_is_told_before_the_rest_is_written(tmp_path, capsys):
    assert evaluate(tmp_path / "out", "--openings", "2", "--seeds", "1") == 2
    assert "not three words in a row" in capsys.readouterr().err


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert evaluate(tmp_path / "file") == 2
    assert "is a file: name a folder with --output" in capsys.readouterr().err
