"""Groups, pairs and the held-out part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.lab.extract.samples import Group, Rows, split, usable


def paired(emotions, queries):
    """Groups of answers to the same queries, with the neutral answers last, and those queries."""
    neutral = list(range(emotions * queries, (emotions + 1) * queries))
    groups = [
        Group(f"e{n}", list(range(n * queries, (n + 1) * queries)), neutral, True)
        for n in range(emotions)
    ]
    return groups, [query for _ in range(emotions + 1) for query in range(queries)]


@given(st.integers(1, 4), st.integers(1, 30), st.floats(0, 0.9), st.integers(0, 9))
def test_a_query_is_on_one_side_for_all_emotions(emotions, queries, share, seed):
    groups, keys = paired(emotions, queries)
    training, heldout = split(groups, share, seed)
    kept_keys, out_keys = (
        {keys[row] for group in side for row in (*group.rows, *group.neutral)}
        for side in (training, heldout)
    )
    assert not kept_keys & out_keys
    for group, kept, out in zip(groups, training, heldout, strict=True):
        assert len(out.rows) == int(share * queries)
        assert sorted([*kept.rows, *out.rows]) == list(group.rows)
        assert [keys[row] for row in out.rows] == [keys[row] for row in out.neutral]


def test_every_set_of_texts_holds_its_share_out():
    groups = [
        Group("joy", range(20), range(30, 80), False),
        Group("fear", range(20, 30), range(30, 80), False),
    ]
    _, (joy, fear) = split(groups, 0.2, seed=1)
    assert [len(joy.rows), len(fear.rows), len(joy.neutral)] == [4, 2, 10]
    assert joy.neutral == fear.neutral
    _, (other, _) = split(groups, 0.2, seed=2)
    assert other.rows != joy.rows


def test_queries_that_two_emotions_share_count_for_both():
    """Joy has the queries 0 to 19, fear 10 to 29: what is held out for joy is not added to."""
    rows, neutral = list(range(40)), [40 + query for query in (*range(20), *range(10, 30))]
    groups = [
        Group("joy", rows[:20], neutral[:20], True),
        Group("fear", rows[20:], neutral[20:], True),
    ]
    keys = [*range(20), *range(10, 30), *range(30)]
    for seed in range(10):
        _, (joy, fear) = split(groups, 0.2, seed)
        shared = sum(keys[row] >= 10 for row in joy.rows)
        assert (len(joy.rows), len(fear.rows)) == (4, max(4, shared))


def test_a_pair_with_an_empty_text_is_dropped_as_one():
    (group,), _ = paired(1, 3)
    weights = np.array([5, 0, 5, 5, 5, 0])
    (kept,) = usable([group], weights)
    assert (kept.rows, kept.neutral) == ([0], [3])
    unpaired = Group("joy", [0, 1, 2], [3, 4, 5], False)
    (kept,) = usable([unpaired], weights)
    assert (kept.rows, kept.neutral) == ([0, 2], [3, 4])


@pytest.mark.parametrize(
    ("weights", "message"), [([0, 1], "for 'joy'"), ([1, 0], "compare 'joy' with")]
)
def test_an_emotion_without_text_is_named(weights, message):
    with pytest.raises(EmokernelError, match=message):
        usable([Group("joy", [0], [1], False)], np.array(weights))


def test_chunks_are_rows_or_their_differences(monkeypatch):
    monkeypatch.setattr("emokernel.lab.extract.samples._CHUNK", 8)
    values = np.arange(48, dtype=np.float32).reshape(2, 6, 4) ** 2
    rows = Rows(values, np.arange(6))
    chunks = list(rows.chunks(1, [5, 0, 3]))
    assert [len(chunk) for chunk, _ in chunks] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([c for c, _ in chunks]), values[1, [5, 0, 3]])
    np.testing.assert_array_equal(np.concatenate([w for _, w in chunks]), [5, 0, 3])
    (first, _), (last, weights) = rows.chunks(0, [1, 2, 3], minus=[4, 5, 0])
    np.testing.assert_array_equal(first, values[0, [1, 2]] - values[0, [4, 5]])
    np.testing.assert_array_equal(last, values[0, [3]] - values[0, [0]])
    assert weights.tolist() == [3]
