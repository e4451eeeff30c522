"""Slots by mix: shared by all who hold the same, free when nobody does."""

from __future__ import annotations

import pytest

from emokernel.errors import NoFreeSlotError
from emokernel.state import Mix
from emokernel.state.slots import MixSlots

JOY, ANGER = Mix(((0, 1.0),)), Mix(((1, 1.0),))


def test_a_mix_that_cannot_be_written_holds_no_slot():
    written, broken = [], [ANGER]

    def write(slot, mix):
        if mix in broken:
            raise RuntimeError("the device is lost")
        written.append((slot, mix))

    slots = MixSlots([3, 5], write)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the device is lost"):
            slots.hold([JOY, ANGER])
        assert slots.held == 0
    broken.clear()
    written.clear()
    held = slots.hold([JOY, ANGER])
    assert set(held) == {3, 5}
    assert sorted(written) == sorted(zip(held, [JOY, ANGER], strict=True))
    with pytest.raises(NoFreeSlotError, match="no more slots"):
        slots.hold([Mix(((2, 1.0),))])
    slots.release([JOY, ANGER])
    assert slots.held == 0


def test_holding_too_many_mixes_holds_none():
    one, two, three = (Mix(((0, float(weight)),)) for weight in (1, 2, 3))
    slots = MixSlots(range(3), lambda slot, mix: None)
    taken = slots.hold([one, two])
    assert taken == [0, 1]
    with pytest.raises(NoFreeSlotError, match="2 different mixes asked for, 1 of 3 slots free"):
        slots.hold([one, three, Mix(((1, 1.0),))])
    assert slots.hold([None, three]) == [-1, 2]
    slots.release([one, two])
    assert sorted(slots.hold([JOY, ANGER])) == [0, 1]
