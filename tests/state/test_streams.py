"""On a GPU nothing is rewritten that a queued forward may read: the order of what is queued."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
import torch
from noting import Noting
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emokernel import patch
from emokernel.engines.compiled import CompiledForwards
from emokernel.state import DeviceState, Mix
from emokernel.state.slots import MixSlots
from emokernel.state.streams import Readers, readers_of

JOY, ANGER, FEAR = (Mix(((number, 1.0),)) for number in range(3))


@dataclass(eq=False)
class Stream:
    """Notes what is asked of it."""

    name: str
    log: list

    def record_event(self):
        self.log.append(f"{self.name} records")
        return self.name

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")


@dataclass
class Device:
    """A device with streams, of which ``on`` makes one the current one; ``log`` is the order."""

    log: list = field(default_factory=list)
    graph: bool = False

    def __post_init__(self):
        self._streams = {name: Stream(name, self.log) for name in "ABC"}
        self.current = self._streams["A"]
        self.readers = Readers(lambda: self.current, lambda: self.graph)

    def on(self, name):
        self.current = self._streams[name]

    def forward(self, name):
        self.on(name)
        self.readers.read()
        self.log.append(f"{name} forward")

    def taken(self):
        taken = list(self.log)
        self.log.clear()
        return taken


class Copies(TorchDispatchMode):
    """Notes each copy into whole records or a plan buffer: int32, with rows longer than a head."""

    def __init__(self, log):
        super().__init__()
        self._log = log

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        copied = func is torch.ops.aten.copy_.default and args[0].dtype is torch.int32
        if copied and args[0].shape[-1] > 8:
            assert not any(args[2:])  # blocking: it has been made when the call returns
            assert not kwargs
            self._log.append("copy")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def device():
    return Device()


def a_state(device, slots=4):
    vectors = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    return DeviceState(
        vectors, slots, torch.device("cpu"), torch.float32, readers=lambda _: device.readers
    )


def test_a_slot_is_rewritten_after_the_forwards_that_may_read_it(device):
    state = a_state(device)
    slots = MixSlots([0], state.write, state.retire)
    slots.hold([JOY])
    device.forward("A")
    device.forward("B")
    device.on("C")
    device.taken()
    slots.release([JOY])
    assert sorted(device.taken()) == ["A records", "B records", "C records"]
    device.forward("B")  # of something else: nobody waits for it
    with Copies(device.log):
        slots.hold([ANGER])
    *waits, copy = device.taken()[1:]
    assert sorted(waits) == ["B waits for A", "B waits for C"]
    assert copy == "copy"
    with Copies(device.log):
        slots.release([ANGER])
        slots.hold([FEAR])
    log = device.taken()
    assert "B waits for A" in log
    assert log[-1] == "copy"


def test_one_stream_waits_for_nothing(device):
    state = a_state(device)
    slots = MixSlots([0], state.write, state.retire)
    for mix in (JOY, ANGER, FEAR):
        slots.hold([mix])
        for _ in range(3):
            device.forward("A")
        assert device.taken() == ["A forward"] * 3  # no event for a forward
        slots.release([mix])
        assert device.taken() == ["A records"]


def test_a_copy_that_fails_keeps_what_it_waited_for(device, monkeypatch):
    state = a_state(device)
    slots = MixSlots([0], state.write, state.retire)
    slots.hold([JOY])
    device.forward("A")
    slots.release([JOY])
    device.on("B")
    with monkeypatch.context() as broken:
        broken.setattr(
            Tensor, "copy_", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("lost"))
        )
        with pytest.raises(RuntimeError, match="lost"):
            slots.hold([ANGER])
    device.taken()
    slots.hold([ANGER])
    assert device.taken() == ["B waits for A"]


def test_each_stream_clones_the_slots_for_its_own_forwards(device):
    state = a_state(device)
    state.write(0, JOY)
    state.records.requires_grad_(False)
    with torch.enable_grad():
        first = state.tables_of_call()
        assert state.tables_of_call() is first
        device.on("B")
        second = state.tables_of_call()
        assert second is not first
        state.write(1, ANGER)
        third = state.tables_of_call()
        assert third is not second
    with torch.no_grad():
        assert state.tables_of_call() is third


def test_what_a_move_drops_stays_while_forwards_read_it(device, monkeypatch):
    state = a_state(device)
    kept = []
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: kept.append((self, stream)))
    state.constant_rows(3, 1)
    old = [state.basis, state.records, state.constant_rows(3, 1)]
    state.move(torch.device("cpu"), torch.bfloat16)
    assert not kept  # no forward has run
    device.forward("A")
    device.forward("B")
    old = [state.basis, state.records]
    state.move(torch.device("cpu"), torch.float32)
    names = {(tensor.data_ptr(), stream.name) for tensor, stream in kept}
    assert names == {(tensor.data_ptr(), name) for tensor in old for name in "AB"}


def test_rows_made_while_a_graph_is_captured_are_for_that_graph_alone(device):
    """They are filled when it is replayed: not before, and not for others."""
    state = a_state(device)
    small = state.constant_rows(8, 2)
    device.graph = True
    captured = state.constant_rows(1000, 2)
    assert (captured == 2).all()
    device.graph = False
    assert state.constant_rows(8, 2) is small
    assert state.constant_rows(1000, 2) is not captured


def test_a_cpu_has_nothing_to_wait_for():
    readers = readers_of(torch.device("cpu"))
    readers.read()
    readers.wait_for_all()
    assert readers.current() is None
    assert readers.mark() == []
    assert not readers.capturing()


@pytest.fixture
def steered(tiny, vectors, prompts, device):
    """(The handle of a patched model on a device with streams, a forward on one of them)."""
    model = tiny()
    steering = patch(model, vectors(), slots=2)
    steering.requested.states.devices[0].readers = device.readers

    @torch.no_grad()
    def forward(name):
        device.on(name)
        model(prompts)

    return steering, forward


def test_what_is_set_is_written_where_no_forward_reads(steered, device):
    steering, forward = steered
    steering.set("joy")
    forward("B")
    device.on("A")
    device.taken()
    with Copies(device.log):
        steering.set("anger")  # into the other slot, which nobody has read
        first, *marks = device.taken()
        steering.set("sadness")  # into the one that was read
    assert first == "copy"
    assert sorted(marks) == ["A records", "B records"]
    log = device.taken()
    assert log.index("A waits for B") < log.index("copy")


def test_the_slots_of_requests_and_changes_wait_for_their_readers(steered, device):
    steering, forward = steered
    with steering.requests(["joy"]) as opened:
        forward("B")
        device.on("A")
        device.taken()
        with Copies(device.log):
            opened.change(["anger"])
            assert device.log[0] == "copy"  # a slot that nobody has read
            device.taken()
            opened.change(["sadness"])
            log = device.taken()
            assert log.index("A waits for B") < log.index("copy")
    device.on("A")
    device.taken()
    with Copies(device.log), steering.requests(["joy", "anger"]):
        log = device.taken()
        assert log.index("A waits for B") < log.index("copy")


def test_a_plan_buffer_that_is_read_is_rewritten_after_its_readers(steered, device):
    steering, forward = steered
    state = steering.requested.states.devices[0]
    (compiled,) = (each for each in steering.engines if isinstance(each, CompiledForwards))
    compiled.made(state)
    forward("B")
    device.on("A")
    device.taken()
    steering.requested.callers.announce()
    assert device.taken() == []  # only forwards without Python read it
    compiled.used(state)
    with Copies(device.log):
        steering.requested.callers.announce()
    assert device.taken() == ["B records", "A waits for B", "copy"]


def test_what_is_released_while_rows_are_written_waits_for_their_forward(device):
    """The rows of a step point to a slot before the forward that reads them is queued."""
    state = a_state(device)
    slots = MixSlots([0], state.write, state.retire)
    slots.hold([JOY])
    asked, released = threading.Event(), threading.Event()
    state.lock = Noting(state.lock, asked)

    def release():
        device.on("B")
        slots.release([JOY])
        released.set()

    thread = threading.Thread(target=release)
    with state.reading():  # on A
        thread.start()
        assert asked.wait(10)
        assert not released.is_set()
        device.log.append("A forward")
    thread.join()
    with Copies(device.log):
        slots.hold([ANGER])
    log = device.taken()
    assert log[0] == "A forward"
    assert log.index("A records") < log.index("B waits for A") < log.index("copy")
