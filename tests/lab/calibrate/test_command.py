"""`emokernel calibrate` from the outside."""

from __future__ import annotations

import json

import pytest

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.lab.calibrate.measuring import Measuring


@pytest.fixture
def folder(tmp_path, model, tokenizer, vectors):
    """A model on disk, and vectors of it."""
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    vectors().select(["joy", "anger"]).save(tmp_path / "v.safetensors")
    return tmp_path


def arguments(folder, *more):
    return [
        "calibrate", str(folder / "model"), "--vectors", str(folder / "v.safetensors"),
        "--site", "attention", "--law", "add", "--dose", "absolute", "--prompts", "4",
        "--max-new-tokens", "4", "--max-perplexity", "50", "--min-distinct", "0.1", *more,
    ]  # fmt: skip


def test_it_writes_vectors_points_and_picture_and_says_what_it_chose(folder, capsys):
    before = EmotionVectors.load(folder / "v.safetensors")
    queries = folder / "queries.json"
    queries.write_text(json.dumps([f"w{n} w{n + 1}" for n in range(9)]))
    assert main(arguments(folder, "--queries", str(queries))) == 0
    shown = capsys.readouterr().out
    assert "chosen: site attention" in shown
    assert "law add, dose absolute" in shown
    after = EmotionVectors.load(folder / "v.safetensors")
    assert after.tensor.equal(before.tensor)
    assert set(after.calibration.strengths) == {"add absolute"}
    assert after.calibration.record["judge"] == "embedded-calibration"
    assert after.calibration.record["prompts"] == 4
    assert len((folder / "v.safetensors.frontier.jsonl").read_text().splitlines()) > 20
    assert (folder / "v.safetensors.frontier.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "v.safetensors.calibration.partial").exists()
    assert main(["show", str(folder / "v.safetensors")]) == 0
    assert "add" in capsys.readouterr().out


def test_an_interrupted_run_says_so_and_goes_on(folder, capsys, monkeypatch):
    original, calls = Measuring._measure, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(Measuring, "_measure", interrupted)
    with pytest.raises(SystemExit, match="130"):
        main(arguments(folder))
    assert "goes on with" in capsys.readouterr().err
    assert EmotionVectors.load(folder / "v.safetensors").calibration is None
    assert main([*arguments(folder), "--max-perplexity", "40"]) == 2
    assert "begun with other settings: bounds" in capsys.readouterr().err
    assert main(arguments(folder)) == 0
    assert EmotionVectors.load(folder / "v.safetensors").calibration is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label", "joy"], "--label needs EMOTION=LABEL, got 'joy'"),
        (["--label", "joy=bliss"], "unknown emotion 'bliss'"),
        (["--label", "bliss=joy"], "unknown emotion 'bliss'"),
        (["--judge", "embedded-evaluation"], "calibrate with another judge"),
        (["--judge", "embedded-nobody"], "no classifier 'embedded-nobody'"),
        (["--coordinates", "nowhere.json"], "nowhere.json"),
        (["--max-perplexity", "0.5"], "perplexity above 1"),
        (["--effort", "0"], "the effort must be above 0"),
        (["--effort", "nan"], "the effort must be above 0"),
        (["--vectors", "nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_bad_input_is_one_line(more, message, folder, capsys):
    assert main(arguments(folder, *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("emokernel: ")
    assert message in error


@pytest.mark.parametrize("name", ["v.npz", "v.gguf", "folder"])
def test_a_file_that_cannot_hold_a_calibration_is_refused_before_anything_runs(
    name, folder, capsys, monkeypatch
):
    monkeypatch.setattr(Measuring, "_measure", None)
    assert main(arguments(folder, "-o", str(folder / name))) == 2
    assert "cannot hold a calibration" in capsys.readouterr().err


def test_several_files_need_an_output(folder, capsys):
    file = str(folder / "v.safetensors")
    assert main(arguments(folder, "--vectors", file, file)) == 2
    assert "say where the best one goes with --output" in capsys.readouterr().err
