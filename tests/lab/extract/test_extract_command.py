"""`emokernel extract`, run as a user runs it, on the embedded model."""

from __future__ import annotations

import json

import pytest

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.commands import extract_sources as sources
from emokernel.lab.extract import answers

OPENINGS = ["I went to", "The man at the", "We are going", "This is the", "Today my friend"]
TEXTS = [
    *(("joy", f"I am so happy about the {thing}!") for thing in ("cat", "day", "food", "game")),
    *(("anger", f"I hate the {thing}, stop it!") for thing in ("cat", "day", "food", "game")),
    *(("neutral", f"There is a {thing} in the room.") for thing in ("cat", "day", "food", "game")),
]


@pytest.fixture
def openings(tmp_path):
    path = tmp_path / "openings.json"
    path.write_text(json.dumps(OPENINGS))
    return str(path)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.tsv"
    rows = ["text\tlabel", *(f"{text}\t{emotion}" for emotion, text in TEXTS)]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_names_of_labels_are_given_or_stand_in_a_file(tmp_path):
    names, path = [f"feeling {number}" for number in range(40)], tmp_path / "names.txt"
    path.write_text("\n".join(names) + "\n")
    assert sources._names_of(str(path)) == names
    assert sources._names_of(",".join(names)) == names  # longer than the name of a file can be


def test_own_answers_of_the_embedded_model(openings, tmp_path, capsys):
    output = tmp_path / "new" / "v.safetensors"
    status = main(
        ["extract", "embedded", "-o", str(output), "--queries", openings, "--emotions", "joy,anger",
         "--max-new-tokens", "8", "--layers", "1-2,4", "--plot", str(tmp_path / "v.png")]
    )  # fmt: skip
    assert status == 0
    vectors = EmotionVectors.load(output)
    assert (vectors.names, vectors.site) == (("joy", "anger"), "attention")
    assert vectors.layers == (1, 2, 4)
    assert vectors.provenance["model"] == "embedded"
    assert vectors.provenance["data"]["conditioning"]["variants"] == [
        ["<|{emotion}|>{query}", "<|neutral|>{query}"]
    ]
    assert vectors.provenance["data"]["sampling"]["max_new_tokens"] == 8
    assert (tmp_path / "v.png").stat().st_size > 1000
    assert not (tmp_path / "new" / "v.safetensors.partial").exists()
    printed = capsys.readouterr().out
    assert "AUC neutral" in printed
    assert [line.split()[0] for line in printed.splitlines()[3:5]] == ["joy", "anger"]
    assert f"wrote {output}" in printed
    assert "emotions are read best in layers" in printed
    assert f"next: `emokernel calibrate embedded --vectors {output}`" in printed


def test_all_emotions_are_those_of_the_embedded_model(openings, tmp_path):
    output = tmp_path / "v.safetensors"
    status = main(
        ["extract", "embedded", "-o", str(output), "--queries", openings, "--per-emotion", "1",
         "--max-new-tokens", "2", "--emotions", "all"]
    )  # fmt: skip
    assert status == 0
    vectors = EmotionVectors.load(output)
    assert len(vectors.names) == 14
    assert vectors.diagnostics["suggested_profile"] is None


def test_given_texts(texts, tmp_path):
    output = tmp_path / "v.safetensors"
    arguments = ["extract", "embedded", "-o", str(output), "--texts", texts, "--site", "block"]
    assert main(arguments) == 0
    against_neutral = EmotionVectors.load(output)
    assert against_neutral.names == ("joy", "anger")
    assert against_neutral.provenance["counts"]["neutral"]["texts"] == 4
    assert against_neutral.provenance["data"]["sha256"]
    assert main([*arguments, "--conditioning", "prefix", "--emotions", "anger"]) == 0
    in_contexts = EmotionVectors.load(output)
    assert in_contexts.names == ("anger",)
    counts = in_contexts.provenance["counts"]
    assert counts["neutral"] == counts["anger"]


def test_rows_of_a_flat_list_have_emotions(openings, tmp_path):
    output = tmp_path / "v.safetensors"
    status = main(
        ["extract", "embedded", "-o", str(output), "--queries", openings, "--max-new-tokens", "2",
         "--rows", "joy=0:2,anger=2:5"]
    )  # fmt: skip
    assert status == 0
    counts = EmotionVectors.load(output).provenance["counts"]
    assert [counts[name]["texts"] for name in ("joy", "anger", "neutral")] == [2, 3, 5]


def test_an_interrupted_run_says_so_and_goes_on(openings, tmp_path, capsys, monkeypatch):
    output = tmp_path / "v.safetensors"
    arguments = [
        "extract", "embedded", "-o", str(output), "--queries", openings, "--emotions", "joy",
        "--max-new-tokens", "4", "--batch-size", "2",
    ]  # fmt: skip
    generate, calls = answers.sample, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*args, **kwargs)

    monkeypatch.setattr(answers, "sample", interrupted)
    with pytest.raises(SystemExit, match="130"):
        main(arguments)
    partial = tmp_path / "v.safetensors.partial"
    assert f"goes on with {partial}" in capsys.readouterr().err
    assert len((partial / "journal.jsonl").read_text().splitlines()) == 1 + 4
    assert not output.exists()
    assert main([*arguments, "--seed", "1"]) == 2
    assert "seed (0, now 1)" in capsys.readouterr().err
    assert main([*arguments, "--keep"]) == 0
    assert len(calls) == 3 + 3
    assert partial.is_dir()
    assert main([*arguments, "--seed", "1", "--restart"]) == 0
    assert not partial.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--site", "mlp"], "unknown site 'mlp'"),
        (["--method", "lda"], "unknown method 'lda'"),
        (["--layers", "1-x"], "layers are numbers such as 3-8,10"),
        (["--layers", "4-9"], "layers must be numbers from 0 to 5"),
        (["--emotions", "joyy"], "joyy"),
        (["--conditioning", "chat"], "no chat template"),
        (["--emotional-template", "{emotion} {query}"], "go together: give both"),
        (["--queries", "missing.json"], r"missing\.json"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tmp_path, capsys):
    output = str(tmp_path / "v.safetensors")
    assert main(["extract", "embedded", "-o", output, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("emokernel: ")
    assert message.replace("\\", "") in error


def test_a_model_in_a_folder_is_asked_through_its_chat_template(
    tiny, tokenizer, openings, tmp_path, capsys
):
    folder, output = str(tmp_path / "model"), tmp_path / "v.safetensors"
    tiny().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    arguments = [
        "extract", folder, "-o", str(output), "--queries", openings, "--emotions", "happy",
        "--max-new-tokens", "4", "--dtype", "bfloat16",
    ]  # fmt: skip
    assert main(arguments) == 2
    assert "has no chat template" in capsys.readouterr().err
    tokenizer.chat_template = (
        "{% for message in messages %}<s> {{ message['content'] }} {% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    assert main(arguments) == 0
    vectors = EmotionVectors.load(output)
    assert vectors.names == ("happy",)
    assert vectors.provenance["dtype"] == "bfloat16"
    assert vectors.provenance["data"]["conditioning"]["kind"] == "chat"
    emotional, neutral = "I am {emotion} {query}", "I {query}"
    own = ["--emotional-template", emotional, "--neutral-template", neutral]
    assert main([*arguments, *own]) == 0
    kind = EmotionVectors.load(output).provenance["data"]["conditioning"]
    assert kind["variants"] == [[emotional, neutral]]
