"""A run that was interrupted goes on, if it is the same run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from word_model import word_tokenizer

from emokernel import bench, machine
from emokernel.bench import resuming
from emokernel.bench.decode import Decoding
from emokernel.cli import main

SHORT = (
    "--rounds", "2", "--new-tokens", "3", "--context", "5", "--batch-sizes", "1", "2",
    "--variants", "emokernel",
)  # fmt: skip


@pytest.fixture
def command(tiny, vectors, tmp_path, monkeypatch, capsys):
    """``command(*more)``: (exit status, batch sizes that were measured, output, errors)."""
    tiny().save_pretrained(tmp_path / "tiny")
    word_tokenizer().save_pretrained(tmp_path / "tiny")
    vectors().save(tmp_path / "vectors.safetensors")
    measured, run = [], Decoding.__call__

    def call(self):
        measured.append(len(self._prompt))
        if command.limit is not None and len(measured) > command.limit:
            raise KeyboardInterrupt
        return run(self)

    monkeypatch.setattr(Decoding, "__call__", call)

    def command(*more: str):
        measured.clear()
        given = ["--vectors", str(tmp_path / "vectors.safetensors"), "-o", str(tmp_path)]
        try:
            status = main(["bench", str(tmp_path / "tiny"), *SHORT, *given, *more])
        except SystemExit as stop:
            status = stop.code
        told = capsys.readouterr()
        return status, sorted(set(measured)), told.out, told.err

    command.limit = None
    return command


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("bench-*.jsonl")
    return path


def interrupted(command) -> None:
    """A run that has finished its first case only."""
    command.limit = 2 + 3 * (2 + 2) + 2 + 3 * 2 + 4  # and of the second one round
    assert command()[0] == 130
    command.limit = None


def test_what_is_finished_is_shown_and_the_rest_is_measured(command, tmp_path):
    assert command("--resume")[1] == [1, 2]  # nothing to resume: a new run
    file_in(tmp_path).unlink()
    interrupted(command)
    before = bench.read(file_in(tmp_path))
    assert {row["batch"] for row in before if row["finished"]} == {1}
    assert {row["batch"] for row in before} == {1, 2}
    status, measured, told, _ = command("--resume")
    assert (status, measured) == (0, [2])
    assert f"from the run of {before[0]['date']}, batch 1, context 5" in told
    assert "tiny-float32-along-batch.png" in told
    rows = bench.read(file_in(tmp_path))  # all of one run
    assert {row["date"] for row in rows} == {before[0]["date"]}
    assert {row["batch"] for row in rows if row["finished"]} == {1, 2}
    status, measured, told, _ = command("--resume")  # all is done
    assert (status, measured) == (0, [])
    assert told.count("from the run of") == 2
    assert command()[1] == [1, 2]  # who does not ask begins anew


def test_a_torn_line_loses_nothing_else(command, tmp_path):
    """Killed while it wrote the rows of a case: the case is measured again, the others are kept."""
    command()
    path = file_in(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-200])
    status, measured, told, _ = command("--resume")
    assert (status, measured) == (0, [2])
    assert told.count("from the run of") == 1
    lines = path.read_bytes().splitlines(keepends=True)
    assert b"".join(lines[:5]) == content[: sum(map(len, lines[:5]))]
    assert {row["batch"] for row in bench.read(path) if row["finished"]} == {1, 2}
    assert command("--resume")[1] == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--new-tokens", "4"], r"new_tokens \(3, now 4\)"),
        (["--rounds", "3"], r"rounds \(2, now 3\)"),
        (["--variants", "plain_hook"], r"variants \(\[.*emokernel.*, now \[.*plain_hook"),
        (["--dtype", "bfloat16"], r"dtype \(float32, now bfloat16\)"),
        (["--precision", "0.1"], r"precision \(null, now 0\.1\)"),
    ],
)
def test_other_settings_are_told(more, told, command, tmp_path):
    command()
    before = file_in(tmp_path).read_bytes()
    status, measured, _, error = command("--resume", *more)
    assert (status, measured) == (2, [])
    assert re.search(rf"no run in .* can be resumed; the last one differs in .*{told}", error)
    assert file_in(tmp_path).read_bytes() == before


def test_another_model_of_the_same_name_or_other_vectors_are_told(
    command, tiny, vectors, tmp_path, monkeypatch
):
    command()
    model = tiny()
    with torch.no_grad():
        model.get_input_embeddings().weight.neg_()
    model.save_pretrained(tmp_path / "tiny")
    assert "differs in model (" in command("--resume")[3]
    tiny().save_pretrained(tmp_path / "tiny")
    vectors(scale=0.3).save(tmp_path / "vectors.safetensors")
    assert "differs in vectors (" in command("--resume")[3]
    vectors().save(tmp_path / "vectors.safetensors")
    assert command("--resume")[:2] == (0, [])
    of = machine.machine() | {"threads": 99}
    monkeypatch.setattr(resuming, "machine", lambda: of)
    assert "differs in machine: threads (" in command("--resume")[3]


def test_a_run_between_does_not_hinder(command, tmp_path):
    """The last run with the same settings goes on, not the last of all."""
    interrupted(command)
    assert command("--new-tokens", "4")[0] == 0
    path = file_in(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    # Runs of one second have the same date.
    for row in rows:
        row["date"] = f"{row['date']}-{row['settings']['new_tokens']}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command("--resume")[:2] == (0, [2])
