"""Timers and budgets of the GPU benchmarks; the graph timer against a stand-in for the GPU."""

from __future__ import annotations

import inspect
import subprocess
from contextlib import contextmanager

import gpu_timing as gpu
import pytest
import torch

from emokernel import machine
from emokernel.bench import compiling


def test_host_timer_runs_all_calls_and_keeps_the_last_result() -> None:
    log: list[int] = []
    prepared = gpu.HostTimer().prepare([lambda n=n: log.append(n) or n for n in range(5)])
    log.clear()
    assert prepared.seconds() > 0
    assert log == [0, 1, 2, 3, 4]
    assert prepared.result == 4


def test_enqueued_calls_leave_the_queue_room() -> None:
    log: list[str] = []

    class Spy(gpu.HostTimer):
        def synchronize(self) -> None:
            log.append("synchronize")

    assert gpu.enqueue_seconds(lambda: log.append("call"), Spy(), launches=16, calls=100) > 0
    assert log.count("call") == 96
    runs = " ".join(log).split("synchronize")
    assert max(run.count("call") for run in runs) * 16 <= gpu.QUEUE
    assert log[-1] == "synchronize"


def test_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    running, charged = gpu.Budget(10), gpu.Budget(5, running=False)
    clock[0] = 9
    assert running.left() == 1
    assert running.refusal() is None
    assert charged.left() == 5
    with charged.charged():
        clock[0] = 15
    assert charged.left() == -1
    assert charged.refusal() == "the budget of 5 s was spent"
    assert running.refusal() == "the budget of 10 s was spent"


class _Gpu:
    """Stands in for torch.cuda: a log of what would have happened on a stream."""

    def __init__(self) -> None:
        self.log: list[str] = []
        stand_in = self

        class Stream:
            def __init__(self, device: object = None) -> None: ...

            def wait_stream(self, _: object) -> None:
                stand_in.log.append("wait")

        class CUDAGraph:
            def capture_begin(self, pool: object = None, capture_error_mode: str = "") -> None:
                stand_in.log.append(f"begin {capture_error_mode}")

            def capture_end(self) -> None:
                stand_in.log.append("end")

            def replay(self) -> None:
                stand_in.log.append("replay")

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                assert enable_timing

            def record(self) -> None:
                stand_in.log.append("record")

            def synchronize(self) -> None:
                stand_in.log.append("synchronize event")

            def elapsed_time(self, _: object) -> float:
                return 6.0

        self.Stream, self.CUDAGraph, self.Event = Stream, CUDAGraph, Event

    @contextmanager
    def stream(self, _: object):
        self.log.append("in")
        yield
        self.log.append("out")

    def current_stream(self) -> object:
        return self

    def synchronize(self) -> None:
        self.log.append("synchronize")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> _Gpu:
    stand_in = _Gpu()
    for name in ("Stream", "CUDAGraph", "Event", "stream", "current_stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


def test_graph_timer_captures_and_times_a_replay_behind_another(device: _Gpu) -> None:
    timer = gpu.GraphTimer(torch.device("cuda"))
    prepared = timer.prepare([lambda n=n: device.log.append(f"call {n}") or n for n in range(2)])
    assert device.log == [
        "wait", "in", "call 0", "call 1", "call 0", "out", "synchronize",
        "in", "begin thread_local", "call 0", "call 1", "end", "out",
    ]  # fmt: skip
    device.log.clear()
    assert prepared.seconds() == pytest.approx(3e-3)  # 6 ms for two calls
    assert device.log == ["replay", "record", "replay", "record", "synchronize event"]
    assert prepared.result == 1


def test_a_capture_that_fails_is_ended(device: _Gpu) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls > compiling.WARM_UP:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        gpu.GraphTimer(torch.device("cuda")).prepare([call])
    assert device.log[-1] == "end"


def test_torch_has_what_the_graph_timer_calls() -> None:
    begin = inspect.signature(torch.cuda.CUDAGraph.capture_begin).parameters
    assert "capture_error_mode" in begin
    for owner, names in (
        (torch.cuda.CUDAGraph, ("capture_end", "replay")),
        (torch.cuda.Event, ("record", "synchronize", "elapsed_time")),
        (torch.cuda.Stream, ("wait_stream",)),
        (torch.cuda, ("stream", "current_stream", "synchronize", "get_device_properties")),
    ):
        assert all(callable(getattr(owner, name)) for name in names), owner


def test_facts_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, "580.1, 1980, 3201, 1980, 3201, 700.00\n")

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(subprocess, "run", run)
    facts = machine._driver_facts()
    assert (facts["driver"], facts["sm_mhz"], facts["power_limit_watts"]) == (
        "580.1", "1980", "700.00",
    )  # fmt: skip
    assert "nvidia-smi" in asked

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert machine._driver_facts() == {}
