"""The command line."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import torch

from emokernel import EmotionVectors
from emokernel.cli import main
from emokernel.commands import info
from emokernel.demo.vectors import VECTORS_PATH


@pytest.mark.parametrize("arguments", [["demo", "--seeds", "0"], ["sing"], []])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: emokernel" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file" / "demo")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("emokernel: ")
    assert len(error.splitlines()) == 1


def test_an_interrupt_is_one_line_and_130(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_characters_that_the_terminal_lacks_are_escaped(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    monkeypatch.setattr(info, "run", lambda _: print("怒 \ud83d", flush=True))
    assert main(["info"]) == 0
    assert shown.getvalue() == b"\\u6012 \\ud83d\n"


def test_info_says_which_backend_is_live(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert "backend cpu        live" in shown
    assert "isa" in shown


def test_info_without_avx2_says_portable():
    command = [sys.executable, "-m", "emokernel.cli", "info"]
    environment = {"EMOKERNEL_CPU_ISA": "portable", "PATH": ""}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "isa: portable" in shown.stdout


@pytest.mark.parametrize("command", ["extract", "calibrate"])
def test_a_model_that_cannot_be_loaded_is_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vectors = tmp_path / "v.safetensors"
    EmotionVectors.from_tensors({"joy": torch.ones(2, 4)}).save(vectors)
    (tmp_path / "model").mkdir()
    options = ["-o", str(tmp_path / "w.safetensors")]
    options += ["--vectors", str(vectors)] if command == "calibrate" else []
    assert main([command, str(tmp_path / "model"), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("emokernel: cannot load the model")
    assert sum(line.startswith("emokernel: ") for line in error) == 1


def through_a_closed_pipe(script: str, *, both: bool = False) -> subprocess.CompletedProcess:
    """Python code whose standard output nobody reads, and with ``both`` not its errors either."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-c", script], stdout=writer, timeout=120, check=False, text=True,
            stderr=writer if both else subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("command", "both"),
    [(["info"], False), (["info"], True), (["convert", "--help"], False), (["show", "{}"], True)],
)
def test_output_that_nobody_reads_ends_quietly(command, both):
    command = [word.format(VECTORS_PATH) for word in command]
    script = f"import sys; from emokernel.cli import main; sys.exit(main({command!r}))"
    ended = through_a_closed_pipe(script, both=both)
    assert ended.returncode in ((0, 141) if "--help" in command else (141,))  # argparse's own
    assert "Broken pipe" not in (ended.stderr or "")
    assert "Traceback" not in (ended.stderr or "")


def test_another_broken_pipe_is_an_error(capsys, monkeypatch):
    def broken(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(info, "run", broken)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == "emokernel: [Errno 32] Broken pipe\n"


def test_an_error_is_told_though_nobody_reads_the_output():
    script = "import sys; from emokernel.cli import main; sys.exit(main(['show', 'nothing']))"
    ended = through_a_closed_pipe(script)
    assert ended.returncode == 2
    assert "emokernel: no such file of emotion vectors: nothing" in ended.stderr


def test_without_a_command_none_is_imported(monkeypatch, capsys):
    monkeypatch.setattr("emokernel.cli.importlib.import_module", None)
    with pytest.raises(SystemExit):
        main([])
    assert "the following arguments are required: command" in capsys.readouterr().err
