"""Slots that the least recent gives up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.errors import NoFreeSlotError
from emokernel.state.recent import RecentSlots

_STEPS = st.lists(st.lists(st.integers(0, 9).map(lambda n: b"%d" % n), max_size=4), max_size=30)


@given(_STEPS)
def test_a_step_finds_every_mix_in_a_slot_that_was_written_with_it(steps):
    recent, held, told = RecentSlots(4), {}, []
    for step in steps:
        placed, written = recent.place(dict.fromkeys(step))
        held |= {slot: head for head, slot in written.items()}
        assert placed.keys() == set(step)
        assert all(held[slot] == head for head, slot in placed.items())
        assert set(held) <= set(range(4))
        assert list(written.values()) == sorted(written.values())
        # What is written anew was not among the last four that were asked for.
        told = [head for head in told if head not in step] + list(dict.fromkeys(step))
        kept = set(told[: -len(placed)][-(4 - len(placed)) :]) if len(placed) < 4 else set()
        assert not kept & written.keys()


def test_more_mixes_than_slots_are_refused_and_nothing_changes():
    recent = RecentSlots(2)
    before = recent.place([b"a", b"b"])[0]
    with pytest.raises(NoFreeSlotError, match="3 mixes"):
        recent.place([b"a", b"b", b"c"])
    assert recent.place([b"a", b"b"]) == (before, {})


def test_a_slot_is_taken_from_the_one_not_asked_for_longest():
    recent = RecentSlots(2)
    first = recent.place([b"a"])[0] | recent.place([b"b"])[0]
    recent.place([b"a"])
    assert recent.place([b"c"]) == ({b"c": first[b"b"]},) * 2
