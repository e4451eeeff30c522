"""A step of vLLM costs the host little; a bound that a busy machine keeps, and loops do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vllm_step

from emokernel import bench
from emokernel.state import DeviceState

# The fastest of these rounds, in milliseconds; measured on two busy cores: 0.02 and 0.3.
ROUNDS, MOST = 65, {"unchanged": 0.1, "all": 1.2}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fastest():
    """Of 256 requests."""
    rows = vllm_step.measured(vllm_step.MOST_REQUESTS, ROUNDS)
    return {row["variant"]: row["fastest"] for row in rows}


def test_a_step_costs_little():
    times = fastest()
    assert times["unchanged"] < MOST["unchanged"]
    assert times["all"] < MOST["all"]
    assert times["unchanged"] < times["all"]


def test_the_bound_notices_a_write_for_each_mix(monkeypatch):
    write_all = DeviceState.write_all

    def one_by_one(self, slots, heads, **options):
        size = len(heads) // len(slots)
        for number, slot in enumerate(slots):
            write_all(self, [slot], heads[number * size : (number + 1) * size], **options)

    monkeypatch.setattr(DeviceState, "write_all", one_by_one)
    assert fastest()["all"] > MOST["all"]


def test_the_bound_notices_rows_that_are_made_one_by_one(monkeypatch):
    def one_by_one(slots, computed, prompts, tokens):
        rows = []
        for of_request, place, prompt, count in zip(slots, computed, prompts, tokens, strict=True):
            for number in range(count):
                kind = min(2, max(0, place + number - prompt + 2))
                rows.append(of_request[kind])
        return np.array(rows, np.int32)

    monkeypatch.setattr("emokernel.engines.vllm.rows.token_slot", one_by_one)
    assert fastest()["unchanged"] > MOST["unchanged"]


def test_what_is_measured_is_what_its_name_says():
    """Which slots are written in each step."""
    written = []
    write_all = DeviceState.write_all
    with pytest.MonkeyPatch.context() as patched:

        def noted(self, slots, heads, **options):
            written.append(len(slots))
            write_all(self, slots, heads, **options)

        patched.setattr(DeviceState, "write_all", noted)
        made = vllm_step.variants(6)
        for name, count in (("unchanged", []), ("one", [1]), ("all", [6])):
            for _ in range(60):
                written.clear()
                made[name]()
                assert written == count, name


def test_the_script_tells_and_records(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vllm_step, "MOST_REQUESTS", 2)
    monkeypatch.setattr(vllm_step, "GOALS", {"unchanged": 0.0, "all": 1e9})
    vllm_step.main(["--requests", "1", "2", "--output", str(tmp_path), "--quick"])
    assert not list(tmp_path.iterdir())
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 6
    assert [line.rpartition(" ")[2] for line in told if "goal" in line] == ["MISSED", "met"]
    vllm_step.main(["--requests", "1", "--output", str(tmp_path)])
    (path,) = tmp_path.glob("vllm_step-*.jsonl")
    rows = bench.read(path)
    assert [row["variant"] for row in rows] == ["unchanged", "one", "all"]
    assert all(0 < row["fastest"] <= row["milliseconds"] for row in rows)
