"""The harness: interleaving, paired ratios, and results that can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from emokernel import bench


def test_rounds_are_interleaved_and_complete() -> None:
    calls: list[str] = []
    times = bench.measure(
        {name: lambda name=name: calls.append(name) for name in "abc"}, rounds=20, warmup=2
    )
    assert all(len(values) == 20 and min(values) >= 0 for values in times.values())
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 22
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1, "the order never changed"


def test_no_rounds_is_an_error() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        bench.measure({"a": lambda: None}, rounds=0)


def test_paired_ratio_ignores_drift() -> None:
    """A machine that slows down by half does so for both."""
    baseline = [1.0 + 0.05 * i for i in range(20)]
    result = bench.compare_to(baseline, [1.2 * second for second in baseline])
    assert result.ratio == pytest.approx(1.2)
    assert result.low == pytest.approx(1.2)
    assert result.high == pytest.approx(1.2)


def test_interval_is_that_of_the_sign_test() -> None:
    """For 20 pairs the 6th and the 15th ratio bound the median with 95.9 % confidence."""
    result = bench.compare_to([1.0] * 20, [float(i) for i in range(1, 21)])
    assert (result.ratio, result.low, result.high) == (10.5, 6.0, 15.0)
    assert bench.compare_to([1.0] * 3, [1.0, 2.0, 3.0]).low == 1.0


def test_lists_have_to_pair() -> None:
    with pytest.raises(ValueError, match="rounds do not pair: 2 and 1"):
        bench.compare_to([1.0, 2.0], [1.0])


def test_results_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.append(tmp_path / "new", "ops", [{"variant": "old"}])
    monkeypatch.setattr("time.strftime", lambda *_: "later")
    assert bench.append(tmp_path / "new", "ops", [{"variant": "a"}, {"variant": "b"}]) == path
    assert path.name == f"ops-{bench.machine_slug()}.jsonl"
    assert [row["variant"] for row in bench.read(path)] == ["a", "b"]
    assert [row["variant"] for row in bench.read(path, last_run=False)] == ["old", "a", "b"]
    assert bench.read(path)[0]["machine"]["cores"] >= 1


def test_description_of_the_machine() -> None:
    assert {"cpu", "cores", "threads", "caches", "gpu"} <= set(bench.machine())
    assert bench.versions()["torch"]
    assert bench.machine_slug().endswith("-cores")
