"""No ratio is told where none was seen."""

from __future__ import annotations

import pytest

from emokernel.bench import PairedRatio, compare_to, pictures
from emokernel.bench.cases import Case
from emokernel.bench.decode import Timing
from emokernel.bench.results import figures, rows_of
from emokernel.bench.summary import missed, table
from emokernel.bench.variants import with_baselines

QUIET, NOISY = PairedRatio(1.0, 0.99, 1.01, 20), PairedRatio(1.0, 0.9, 1.1, 20)
SLOWER, FASTER = PairedRatio(1.04, 1.03, 1.06, 20), PairedRatio(0.97, 0.95, 0.98, 20)


@pytest.mark.parametrize(
    ("found", "noise", "seen"),
    [
        (PairedRatio(1.05, 1.02, 1.08, 20), None, True),
        (PairedRatio(1.05, 1.02, 1.08, 20), QUIET, True),
        (PairedRatio(1.05, 1.02, 1.08, 20), NOISY, False),  # the baseline is as far from itself
        (PairedRatio(1.05, 0.99, 1.08, 20), QUIET, False),  # the interval has 1 in it
        (PairedRatio(0.8, 0.7, 0.85, 20), NOISY, True),
        (PairedRatio(0.8, 0.7, 1.0, 20), NOISY, False),
        # Where the baseline is slower than itself, so much faster is noise as well, and less too.
        (PairedRatio(0.95, 0.94, 0.96, 20), SLOWER, False),
        (PairedRatio(1.02, 1.01, 1.03, 20), SLOWER, False),
        (PairedRatio(1.04, 1.03, 1.05, 20), FASTER, False),
        (PairedRatio(1.07, 1.06, 1.08, 20), SLOWER, True),
    ],
)
def test_a_difference_is_seen_outside_of_the_noise_only(found, noise, seen):
    assert found.is_seen(noise) is seen
    told = found.in_words(noise)
    assert told.startswith(f"{found.ratio:.3f}x" if seen else "no difference seen")
    assert f"({found.low:.3f} to {found.high:.3f}" in told
    # Where the interval alone would show a difference, the noise is told.
    assert ("; noise " in told) is (not seen and not found.low <= 1 <= found.high)


@pytest.mark.parametrize("rounds", [1, 5, 6])
def test_fewer_than_six_rounds_show_nothing(rounds):
    found = compare_to([1.0] * rounds, [2.0] * rounds)
    assert found.rounds == rounds
    assert found.is_seen() is found.is_seen(QUIET) is (rounds == 6)
    told = "2.000x" if rounds == 6 else f"too few rounds to tell ({rounds} of at least 6)"
    assert found.in_words(QUIET).startswith(told)


def timings(step: float, rounds: int = 10) -> list[Timing]:
    """Of rounds that drift, in seconds."""
    return [Timing(0.5, (step * (1 + 0.01 * n),) * 4) for n in range(rounds)]


def test_figures_are_in_milliseconds_and_count_all_tokens():
    of = figures([Timing(0.5, tuple(0.001 * n for n in range(1, 101)))] * 3, batch=2)
    assert of["first_ms"] == 500
    assert of["token_ms"] == pytest.approx(50.5)
    assert of["token_ms_p90"] == pytest.approx(90, abs=1)
    assert of["token_ms_p99"] == pytest.approx(99, abs=1)
    assert of["tokens_per_second"] == pytest.approx(2 * 101 / (0.5 + 5.05))
    assert of["rounds"] == 3


def test_rows_are_compared_with_their_baseline_by_round():
    variants = with_baselines(["plain_hook", "emokernel", "emokernel_compiled"])
    measured = {
        "unpatched": timings(0.010), "unpatched_again": timings(0.0101),
        "plain_hook": timings(0.012), "emokernel": timings(0.0102),
        "unpatched_compiled": timings(0.005), "unpatched_compiled_again": timings(0.005),
        "emokernel_compiled": timings(0.006),
    }  # fmt: skip
    case = Case(2, 8)
    rows = {row["variant"]: row for row in rows_of(case, variants, measured, {}, 10)}
    assert rows["plain_hook"]["ratio"] == pytest.approx([1.2] * 3)
    assert rows["emokernel"]["over_plain_hook"] == pytest.approx([0.85] * 3)
    assert rows["emokernel_compiled"]["ratio"] == pytest.approx([1.2] * 3)
    assert rows["emokernel_compiled"]["baseline"] == "unpatched_compiled"
    assert "ratio" not in rows["unpatched"]
    assert len(rows["unpatched"]["token_ms_of_rounds"]) == 10
    told = table(case, list(rows.values()))
    assert "1.200x (1.200 to 1.200), compiled too" in told
    assert "emokernel against the plain hook: 0.850x" in told
    assert rows["unpatched_again"]["noise"] == pytest.approx([1 / 1.01, 1.01])
    assert "noise: 0.990 to 1.010" in told
    assert not any("stopped" in row for row in rows.values())


def test_fewer_rounds_than_asked_are_told_with_their_reason():
    variants = with_baselines(["plain_hook_add", "plain_hook", "emokernel"])
    measured = {
        "unpatched": timings(0.01), "unpatched_again": timings(0.01),
        "plain_hook": timings(0.02, 7), "plain_hook_add": timings(0.02, 3),
        "emokernel": timings(0.01, 9),
    }  # fmt: skip
    why = {"plain_hook": "failed: KeyError: 'a'", "plain_hook_add": "out of memory"}
    rows = {row["variant"]: row for row in rows_of(Case(), variants, measured, why, 10)}
    expected = {
        "plain_hook": "failed after 7 of 10 rounds: KeyError: 'a'",
        "plain_hook_add": "out of memory after 3 of 10 rounds",
        "emokernel": "interrupted after 9 of 10 rounds",
    }
    assert {name: row["stopped"] for name, row in rows.items() if "stopped" in row} == expected
    assert rows["plain_hook"]["ratio"] == pytest.approx([2] * 3)  # of the rounds that both have
    lines = [line.strip() for line in table(Case(), list(rows.values())).splitlines()]
    assert set(expected.values()) <= set(lines)


def test_what_did_not_run_has_a_row():
    variants = with_baselines(["plain_hook"])
    measured, why = {"unpatched": timings(0.01)}, {"plain_hook": "out of memory"}
    rows = rows_of(Case(), variants, measured, why, 10)
    assert {row["variant"]: row.get("not_run") for row in rows} == {
        "unpatched": None, "unpatched_again": "interrupted", "plain_hook": "out of memory",
    }  # fmt: skip
    told = table(Case(), rows).splitlines()
    assert any(line.split() == ["plain", "hook", "not", "run:", "out", "of", "memory"]
               for line in told)  # fmt: skip


@pytest.mark.parametrize("shift", [1.0, 1.004])
def test_no_ratio_within_the_noise_is_anywhere(shift, tmp_path, monkeypatch):
    """Neither of tokens, nor of the first, nor of throughput: in rows, words or pictures."""
    wobble = [1, 1.02, 0.99, 1.03, 0.98, 1.01, 1.005, 0.97] * 2
    measured = {
        name: [Timing(0.5 * w**k * by, (0.01 * w**k * by,) * 3) for w in wobble]
        for name, k, by in (
            ("unpatched", 0, 1), ("unpatched_again", 1, 1), ("plain_hook", -1, shift),
            ("emokernel", 2, shift),
        )
    }  # fmt: skip
    rows = rows_of(Case(), with_baselines(["plain_hook", "emokernel"]), measured, {}, 16)
    for row in rows:
        assert not {"ratio", "first_ratio", "throughput_ratio", "over_plain_hook"} & row.keys()
        assert not any(row[key] for key in row if key.endswith("_seen"))
    told = table(Case(), rows)
    assert "x (" not in told
    assert told.count("no difference seen") == 3 + 2 * 2
    (line,) = (line for line in told.splitlines() if "cannot be seen" in line)
    assert 1 < float(line.split()[2]) < 10
    drawn = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    pictures.latency(tmp_path / "a.png", rows, "")
    pictures.along(tmp_path / "b.png", "batch", [(Case(1), rows), (Case(2), rows)], "")
    one, sweep = drawn
    labels = [label.get_text() for label in one.axes[0].get_yticklabels()]
    assert [label.rpartition(", ")[2] for label in labels[1:]] == ["no difference"] * 3
    assert not any(line.get_marker() == "o" for line in sweep.axes[0].lines)
    connecting = [line for line in sweep.axes[0].lines if line.get_label() == "plain hook"]
    assert all(value != value for line in connecting for value in line.get_ydata())  # all NaN


def test_what_is_seen_is_told_of_first_tokens_and_throughput_too(tmp_path, monkeypatch):
    measured = {
        "unpatched": timings(0.010), "unpatched_again": timings(0.0101),
        "emokernel": [Timing(0.4, timing.steps) for timing in timings(0.02)],
    }  # fmt: skip
    rows = rows_of(Case(), with_baselines(["emokernel"]), measured, {}, 10)
    row = rows[-1]
    assert row["first_ratio"] == pytest.approx([0.8] * 3)
    assert row["throughput_ratio"][0] == pytest.approx(0.54 / 0.48, abs=0.02)
    told = table(Case(), rows)
    assert "first token: emokernel 0.800x (0.800 to 0.800)" in told
    assert "tokens/s: emokernel 1.1" in told
    drawn = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    cases = [Case(batch, mixes=mixes) for batch in (1, 4) for mixes in (1, 4)]
    done = [(case, rows) for case in cases]
    assert pictures.varied(cases) == ["batch", "mixes"]
    assert pictures.along(tmp_path / "b.png", "batch", done, "") == 2  # a panel for each mix
    dots = [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in dots] == pytest.approx([2, 2])


def test_what_missed_its_precision_is_told_by_how_much():
    wide = {"variant": "emokernel", "rounds": 20, "half_width": 0.031}
    narrow = {"variant": "plain_hook", "rounds": 20, "half_width": 0.01}
    few = {"variant": "emokernel", "rounds": 5}
    done = {Case(1): [narrow, wide], Case(2): [narrow], Case(4): [few]}
    assert missed(done, 0.02) == [
        f"wider than 0.02 to either side: {Case(1)}: emokernel 0.031",
        f"wider than 0.02 to either side: {Case(4)}: too few rounds for an interval",
    ]
