"""Slots as the kernels see them."""

from __future__ import annotations

import threading

import pytest
import torch
from noting import Noting

from emokernel.errors import SteeringError
from emokernel.reference import Law
from emokernel.state import DeviceState, Mix


def state(dtype=torch.float32):
    vectors = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    vectors[1, 2] = 0.0
    return vectors, DeviceState(vectors, 4, torch.device("cpu"), dtype)


def test_a_slot_is_seen_by_every_layer():
    _, held = state()
    held.write(2, Mix(((1, 0.5), (2, -2.0)), Law.ADD))
    for layer in range(2):
        basis, ids, weights, law = held.tables[layer]
        assert basis.shape == (3, 5)
        assert ids[2, :2].tolist() == [1, 2]
        assert law[2] == Law.ADD
        assert weights[2, 0] == 0.5
        assert not weights[2, 2:].any()
        assert not weights[[0, 1, 3]].any()
    assert held.tables[0][2][2, 1] == -2.0
    assert held.tables[1][2][2, 1] == 0.0, "a vector that is zero at a layer has weight zero there"


def test_views_follow_a_rewrite_in_place():
    _, held = state()
    _, ids, weights, _ = held.tables[0]
    address = held.records.data_ptr()
    held.write(0, Mix(((2, 1.0), (1, 1.0))))
    held.write(0, Mix(((1, 3.0),)))
    assert (ids[0, 0], weights[0, 0], weights[0, 1]) == (1, 3.0, 0.0)
    assert held.records.data_ptr() == address


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relative_dose_divides_by_the_norm_of_the_stored_row(dtype):
    vectors, held = state(dtype)
    held.write(1, Mix(((0, 2.0), (2, 1.0)), Law.PRESERVE | Law.RELATIVE))
    stored = vectors.to(dtype).float().norm(dim=-1)
    for layer in range(2):
        weights = held.tables[layer][2]
        assert weights[1, 0] == pytest.approx(2.0 / stored[layer, 0].item())
    assert held.tables[1][2][1, 1] == 0.0


@pytest.mark.parametrize("slot", [-1, 4])
def test_slots_that_do_not_exist_are_refused(slot):
    with pytest.raises(SteeringError, match="does not exist"):
        state()[1].write(slot, Mix(((0, 1.0),)))


@pytest.mark.parametrize("number", [-1, 3])
def test_vectors_that_do_not_exist_are_refused_and_the_slot_kept(number):
    _, held = state()
    held.write(0, Mix(((1, 1.0),)))
    before = held.records.clone()
    with pytest.raises(SteeringError, match="does not exist"):
        held.write(0, Mix(((0, 1.0), (number, 1.0))))
    assert torch.equal(held.records, before)


def test_what_an_engine_keeps_moves_with_the_state():
    class Kept:
        used = False

        def on(self, device: torch.device) -> str:
            return f"on {device}"

    _, held = state()
    held.plan_buffer = Kept()
    held.move(torch.device("cpu"), torch.bfloat16)
    assert held.plan_buffer == "on cpu"


def test_constant_rows_are_long_enough_and_kept():
    _, held = state()
    rows = held.constant_rows(10, 3)
    assert rows.numel() >= 10
    assert (rows == 3).all()
    assert held.constant_rows(5, 3) is rows
    assert held.constant_rows(1000, 3).numel() >= 1000


def test_all_rows_are_kept():
    """A captured graph may read any of them."""
    _, held = state()
    small, large = held.constant_rows(10, 1), held.constant_rows(1000, 1)
    assert held.constant_rows(10, 1) is small
    assert held.constant_rows(1000, 1) is large


def test_two_threads_are_given_the_same_rows(monkeypatch):
    _, held = state()
    making, second = threading.Event(), threading.Event()
    held.lock = Noting(held.lock, second)
    full, given = torch.full, []

    def slow(*args, **kwargs):
        if threading.current_thread() is first:
            making.set()
            assert second.wait(10)
        return full(*args, **kwargs)

    monkeypatch.setattr(torch, "full", slow)
    first = threading.Thread(target=lambda: given.append(held.constant_rows(10, 1)))
    first.start()
    assert making.wait(10)
    given.append(held.constant_rows(10, 1))
    first.join()
    assert given[0] is given[1]


def test_what_is_written_while_the_model_is_moved_is_not_lost(monkeypatch):
    """The move has read what the slot held, and writes it after another thread's write began."""
    _, held = state()
    moving, second = threading.Event(), threading.Event()
    held.lock = Noting(held.lock, second)
    held.write(1, Mix(((0, 1.0),)))
    put = held._put

    def slow(where, heads):
        moving.set()
        assert second.wait(10)
        put(where, heads)

    monkeypatch.setattr(held, "_put", slow)
    move = threading.Thread(target=held.move, args=(torch.device("cpu"), torch.bfloat16))
    move.start()
    assert moving.wait(10)
    held.write(1, Mix(((2, 3.0),)))
    second.set()
    move.join()
    assert held.tables[0][1][1, 0] == 2
    assert held.tables[0][2][1, 0] == 3.0


def test_a_write_that_failed_is_not_made_up_for_by_the_next(monkeypatch):
    """Which copies all records between the first and the last of its slots."""
    _, held = state()
    held.write(1, Mix(((0, 1.0),)))

    def lost(*_, **__):
        raise RuntimeError("lost")

    with monkeypatch.context() as broken:
        broken.setattr(torch.Tensor, "copy_", lost)
        with pytest.raises(RuntimeError, match="lost"):
            held.write(1, Mix(((2, 3.0),)))
    held.write_all([0, 2], Mix(((1, 2.0),)).head * 2)
    assert held.tables[0][1][:3, 0].tolist() == [1, 0, 1]
    assert held.tables[0][2][:3, 0].tolist() == [2.0, 1.0, 2.0]
