"""`emokernel bench` from end to end."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from word_model import word_tokenizer

from emokernel import bench
from emokernel.bench.decode import Decoding
from emokernel.cli import main

SHORT = ("--rounds", "2", "--new-tokens", "3", "--context", "5", "--batch-sizes", "1", "2")


@pytest.fixture(scope="module")
def folder(tiny, vectors, tmp_path_factory) -> Path:
    """A saved model, its tokenizer and its vectors."""
    path = tmp_path_factory.mktemp("bench") / "tiny"
    tiny().save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    vectors().save(path / "vectors.safetensors")
    return path


def rows_in(folder: Path) -> list[dict]:
    (path,) = folder.glob("bench-*.jsonl")
    return bench.read(path, last_run=False)


def test_results_pictures_and_a_table(folder, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["bench", str(folder), "--vectors", str(folder / "vectors.safetensors"), *SHORT]
    arguments += ["--variants", "emokernel", "plain_hook", "--steered", "0.5", "1"]
    assert main([*arguments, "-o", str(output)]) == 0
    told = capsys.readouterr().out
    rows = rows_in(output)
    assert [(row["batch"], row["share"]) for row in rows[::4]] == [(1, 1), (2, 0.5), (2, 1)]
    assert [row["variant"] for row in rows[:4]] == [
        "unpatched", "unpatched_again", "plain_hook", "emokernel",
    ]  # fmt: skip
    for row in rows:
        assert (row["model"], row["dtype"], row["device"]) == (str(folder), "float32", "cpu")
        assert row["machine"]["cores"] >= 1
        assert row["versions"]["torch"] == version("torch")
        assert row["vectors"].endswith("vectors.safetensors")
    assert len({row["date"] for row in rows}) == 1
    pictures = sorted(path.name for path in output.glob("*.png"))
    assert pictures == [
        "tiny-float32-along-batch.png", "tiny-float32-along-share.png",
        "tiny-float32-b1-c5-s1-m1.png", "tiny-float32-b2-c5-s1-m1.png",
        "tiny-float32-b2-c5-s2-m1.png",
    ]  # fmt: skip
    for name in pictures:
        assert (output / name).read_bytes().startswith(b"\x89PNG")
        assert name in told
    assert "batch 2, context 5, 1 steered (1 mix); 2 rounds of 3 tokens:" in told
    assert told.count("too few rounds to see any difference") == 3
    assert main([*arguments, "-o", str(output)]) == 0
    assert len(rows_in(output)) == 2 * len(rows)


def test_a_folder_without_a_tokenizer_is_measured(tiny, tmp_path, capsys):
    tiny().save_pretrained(tmp_path / "bare")
    arguments = ["bench", str(tmp_path / "bare"), *SHORT, "--variants", "emokernel"]
    assert main([*arguments, "-o", str(tmp_path)]) == 0
    assert "no tokenizer in" in capsys.readouterr().err
    assert len(rows_in(tmp_path)) == 6


def test_a_quick_run_says_what_it_leaves_out(folder, tmp_path, capsys):
    arguments = ["bench", str(folder), "--quick", *SHORT[:-1], "-o", str(tmp_path)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "left out by --quick: what torch.compile makes faster" in told
    assert "random ones at site 'attention'" in told
    assert {row["mode"] for row in rows_in(tmp_path)} == {"eager", "graph"}
    if not torch.cuda.is_available():
        assert "emokernel graph           not run: no GPU" in told


def test_an_interrupted_run_keeps_its_rounds(folder, tmp_path, capsys, monkeypatch):
    calls, run = [], Decoding.__call__

    def call(self):
        calls.append(self)
        # Three variants, two of them prepared: warm, measured; of the second case one round.
        if len(calls) > 2 + 3 * (2 + 3) + 2 + 3 * (2 + 1) + 1:
            raise KeyboardInterrupt
        return run(self)

    monkeypatch.setattr(Decoding, "__call__", call)
    arguments = ["bench", str(folder), *SHORT, "--rounds", "3", "--variants", "emokernel"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "-o", str(tmp_path)])
    assert stop.value.code == 130
    (path,) = tmp_path.glob("bench-*.jsonl")
    assert (
        f"interrupted; what was measured until then is in {path}; --resume goes on with it"
        in capsys.readouterr().err
    )
    assert [(row["batch"], row.get("rounds")) for row in rows_in(tmp_path)] == [
        (1, 3), (1, 3), (1, 3), (2, 1), (2, 1), (2, 1),
    ]  # fmt: skip


def test_an_interrupt_while_preparing_says_that_nothing_was_measured(
    folder, tmp_path, capsys, monkeypatch
):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoding, "__call__", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["bench", str(folder), *SHORT, "--variants", "emokernel", "-o", str(tmp_path)])
    assert stop.value.code == 130
    assert "interrupted; nothing was measured yet" in capsys.readouterr().err


def test_an_unforeseen_failure_exits_with_1(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Decoding, "__call__", lambda self: {}["missing"])
    arguments = ["bench", str(folder), *SHORT, "--variants", "emokernel", "-o", str(tmp_path)]
    assert main(arguments) == 1
    assert all(row["not_run"] == "failed: KeyError: 'missing'" for row in rows_in(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--variants", "fast"], "unknown variant 'fast': choose from unpatched"),
        (["--batch-sizes", "9", "--mixes", "different", "--slots", "8"], "9 different mixes, but"),
        (["--compile-backend", "abacus"], "torch.compile has no backend 'abacus'"),
        (["--new-tokens", "1"], "--new-tokens must be at least 2"),
        (["--variants", "emokernel_graph"], "emokernel_graph cannot run here: no GPU"),
        (["--compare", "emokernel", "emokernel_graph"], "emokernel_graph cannot run here: no GPU"),
        (["--compare", "emokernel", "emokernel"], "is one variant: name two"),
        (["--mixes", "3"], "more different mixes than steered sequences, as in every case"),
        (["--components", "5"], "5 vectors a mix, but there are 4 emotions: at most 4"),
        (["--layers", "all", "2-7"], "layers"),
        (["--site", "attention", "--variants", "plain_hook"], "plain_hook is other work than ask"),
    ],
)
def test_wrong_arguments_are_one_line_and_2(arguments, told, folder, tmp_path, capsys):
    if "emokernel_graph" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    vectors = ["--vectors", str(folder / "vectors.safetensors")]
    assert main(["bench", str(folder), *vectors, *SHORT, "-o", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("emokernel: ")
    assert told in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--steered", "1.5"], ["--rounds", "0"], ["--mixes", "no"], ["--mixes", "0"],
        ["--layers", "3-2"], ["--precision", "1"], ["--minutes", "0"], ["--compare", "emokernel"],
        ["--compare", "a", "b", "--variants", "c"],
    ],
)  # fmt: skip
def test_arguments_out_of_range_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert "usage: emokernel bench" in capsys.readouterr().err


def test_rows_are_json_lines(folder, tmp_path):
    arguments = ["bench", str(folder), "--quick", *SHORT[:-1], "-o", str(tmp_path)]
    assert main([*arguments, "--variants", "emokernel"]) == 0
    (path,) = tmp_path.glob("bench-*.jsonl")
    for line in path.read_text("utf-8").splitlines():
        assert {"variant", "mode", "batch", "context", "share", "mixes"} <= json.loads(line).keys()


def test_a_sweep_leaves_out_what_cannot_be_and_says_so(tiny, tmp_path, capsys):
    """Of a model without vectors, whose random ones are as many as a mix needs."""
    tiny().save_pretrained(tmp_path / "bare")
    arguments = ["bench", str(tmp_path / "bare"), *SHORT, "--compare", "plain_hook", "emokernel"]
    arguments += ["--mixes", "1", "2", "--components", "1", "6", "--layers", "all", "0-2", "1"]
    assert main([*arguments, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    for parts in ("", " of 6 vectors"):
        left = f"left out: batch 1, context 5, 1 steered (2 mixes{parts})"
        assert f"{left}: more different mixes than steered sequences" in told
    rows = rows_in(tmp_path)
    found = [tuple(row[key] for key in ("batch", "layers", "mixes", "components")) for row in rows]
    assert found[::3] == [
        (1, "all", 1, 1), (1, "all", 1, 6), (1, "1", 1, 1), (1, "1", 1, 6),
        (2, "all", 1, 1), (2, "all", 1, 6), (2, "all", 2, 1), (2, "all", 2, 6),
        (2, "1", 1, 1), (2, "1", 1, 6), (2, "1", 2, 1), (2, "1", 2, 6),
    ]  # fmt: skip
    assert [row["variant"] for row in rows[:3]] == ["plain_hook", "plain_hook_again", "emokernel"]
    pictures = sorted(path.name.rpartition("along-")[2] for path in tmp_path.glob("*.png"))
    assert pictures == ["batch.png", "components.png", "layers.png", "mixes.png"]


def test_a_box_that_is_over_before_anything_is_measured_has_its_rows(folder, tmp_path, capsys):
    arguments = ["bench", str(folder), *SHORT, "--variants", "emokernel", "--minutes", "1e-4"]
    assert main([*arguments, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "\nbatch 2, context 5, 2 steered (1 mix): not begun: time was up\n" in told
    assert "not begun within 0.0001 minutes: batch 1, context 5, 1 steered" in told
    rows = rows_in(tmp_path)
    assert [row["batch"] for row in rows] == [1, 1, 1, 2, 2, 2]
    assert {row["not_run"] for row in rows} == {"not begun: time was up"}
    assert not any(row["finished"] for row in rows)
