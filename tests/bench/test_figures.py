"""The figures of README.md and docs/ are what the committed results say."""

from __future__ import annotations

import json
from pathlib import Path

import figures
import pytest
from figure_results import Results

THERE = (figures.ROOT / "docs").exists() and figures.RESULTS.exists()
PLACE = "<!-- figures: {} -->\n{}\n<!-- end of figures -->"
MACHINE = {"cpu": "Intel(R) Xeon(R) Processor (family 6, model 207)", "cores": 2}


@pytest.mark.skipif(not THERE, reason="a source distribution has neither docs/ nor results")
def test_pages_are_what_the_results_say():
    differ = {
        path.name: list(figures.differing(path.read_text("utf-8"), right))
        for path, right in figures.stale()
    }
    assert differ == {}, "run python benchmarks/figures.py (make figures)"


def forward(variant: str, ratio: list[float] | None, date: str, batch: int = 1) -> dict:
    about = {"model": "smollm2", "dtype": "fp32", "what": "step", "mode": "eager"}
    row = {**about, "batch": batch, "context": 64, "variant": variant, "ms": 50.0, "date": date}
    return {**row, "machine": MACHINE} | ({"ratio": ratio} if ratio else {})


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two runs of one case, of which the first has another one too."""
    rows = [
        forward("unpatched", None, "2026-11-28"),
        forward("emokernel", [1.5, 1.4, 1.6], "2026-11-28"),
        forward("unpatched", None, "2026-11-28", batch=8),
        forward("emokernel", [1.2, 1.1, 1.3], "2026-11-28", batch=8),
        forward("unpatched", None, "2026-11-29"),
        forward("emokernel", [0.97, 0.96, 0.98], "2026-11-29"),
    ]
    (tmp_path / "models-here.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Results(tmp_path)


def test_of_each_case_the_newest_run_is_told(results: Results):
    told = figures.FIGURES["models"](results)
    assert "0.970 (0.960 to 0.980)" in told
    assert "8 sequences, a token behind 64, eager | 50.00 ms |  |  | 1.200 (1.100 to 1.300)" in told
    assert "1.500" not in told
    assert "2 cores of an Intel Xeon (family 6, model 207), 2026-11-28 to 2026-11-29" in told
    short = " ".join(figures.FIGURES["models-in-short"](results).split())
    assert "takes 0.970 (0.960 to 0.980) times in fp32 as long" in short


def test_what_nobody_measured_is_said(tmp_path: Path):
    nothing = Results(tmp_path)
    for make in figures.FIGURES.values():
        assert make(nothing).startswith("Not measured yet: `python benchmarks/")


def test_places_are_filled_and_the_rest_is_kept(results: Results):
    text = f"before\n{PLACE}\nbetween\n{PLACE} behind\n"
    old, new = text.format("a", "old", "b", ""), text.format("a", "new", "b", "2\n\n3")
    makers = {"a": lambda _: "new", "b": lambda _: "2\n\n3"}
    assert figures.filled(old, results, makers) == new
    assert figures.filled(new, results, makers) == new
    assert list(figures.differing(old, new)) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PLACE.format("unknown", ""), "no figures are called 'unknown'"),
        ("<!-- figures: a -->\nopen", "does not end"),
        ("<!-- figures: a -->\n" + PLACE.format("a", ""), "does not end"),
    ],
)
def test_a_wrong_mark_is_an_error(text: str, told: str, results: Results):
    with pytest.raises(ValueError, match=told):
        figures.filled(text, results, {"a": lambda _: ""})
