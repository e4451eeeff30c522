"""`emokernel bench --numerics` from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from emokernel.bench.numerics import PEERS, made_rows
from emokernel.cli import main
from emokernel.commands import bench_numerics
from emokernel.ops import available


def test_a_table_rows_and_pictures(tiny, vectors, tmp_path, capsys, monkeypatch):
    def few_rows():
        made = made_rows()
        few = [layer.to(torch.float32, torch.arange(4)) for layer in made.layers[:2]]
        return replace(made, layers=tuple(few))

    monkeypatch.setattr(bench_numerics, "made_rows", few_rows)
    tiny().save_pretrained(tmp_path / "tiny")
    vectors().save(tmp_path / "vectors.safetensors")
    arguments = ["--vectors", str(tmp_path / "vectors.safetensors"), "-o", str(tmp_path / "out")]
    assert main(["bench", str(tmp_path / "tiny"), "--numerics", *arguments]) == 0
    told = capsys.readouterr().out
    (path,) = (tmp_path / "out").glob("numerics-*.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert {row["rows"] for row in rows} == {"model", "made"}
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16", "float16"}
    assert all({"machine", "versions", "source", "law"} <= row.keys() for row in rows)
    names = {row["formula"] for row in rows}
    live = [name for name, refusal in available().items() if refusal is None]
    assert names >= {formula.name for formula in PEERS} | {f"emokernel {name}" for name in live}
    model = next(row for row in rows if row["rows"] == "model")
    assert (model["model"], model["site"]) == (str(tmp_path / "tiny"), "attention")
    assert "model" not in next(row for row in rows if row["rows"] == "made")
    assert "bfloat16, model: emokernel is" in told
    (line,) = (line for line in told.splitlines() if line.startswith("float16, change rows"))
    assert "repeng, normalize" in line
    assert "emokernel" not in line
    for name in ("numerics-tiny.png", "numerics-made.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert name in told
    # Nothing is timed: the same figures, whoever runs it.
    figures = [{k: v for k, v in row.items() if k != "date"} for row in rows]
    assert main(["bench", str(tmp_path / "tiny"), "--numerics", *arguments]) == 0
    again = [json.loads(line) for line in path.read_text("utf-8").splitlines()][len(rows) :]
    assert [{k: v for k, v in row.items() if k != "date"} for row in again] == figures


def test_options_of_timing_are_refused(capsys):
    arguments = ["bench", "embedded", "--numerics", "--quick", "--batch-sizes", "2"]
    assert main(arguments) == 2
    assert "leave out --batch-sizes, --quick" in capsys.readouterr().err
