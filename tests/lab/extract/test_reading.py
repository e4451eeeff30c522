"""Texts to token ids, and batches of about the same length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel import EmokernelError
from emokernel.lab.extract.reading import batches, digest
from emokernel.lab.measure.encoding import encode


@given(
    st.lists(st.integers(1, 50), max_size=40),
    st.integers(1, 200),
    st.none() | st.integers(1, 5),
)
def test_batches_hold_every_text_once_within_the_budget(lengths, tokens, size):
    plan = list(batches(lengths, range(len(lengths)), tokens, size))
    assert sorted(number for batch in plan for number in batch) == list(range(len(lengths)))
    flat = [lengths[number] for batch in plan for number in batch]
    assert flat == sorted(flat, reverse=True)
    for batch in plan:
        padded = max(lengths[number] for number in batch) * len(batch)
        assert len(batch) == 1 or padded <= tokens
        assert size is None or len(batch) <= size
    for batch, after in pairwise(plan):  # none is smaller than it must be
        more = lengths[batch[0]] * (len(batch) + 1)
        wasteful = 4 * more > tokens and lengths[after[0]] < 0.8 * lengths[batch[0]]
        assert more > tokens or len(batch) == size or wasteful


def test_a_large_batch_is_hardly_padded():
    lengths = [*range(10, 60)] * 20
    padded = sum(lengths[b[0]] * len(b) for b in batches(lengths, range(len(lengths)), 4096))
    assert padded < 1.1 * sum(lengths)


def test_own_tokens_are_those_of_the_text_alone(tokenizer):
    texts = ["cat runs", ("I am ", "happy now"), ("I am", " happy"), ("I am", ""), "cat </s> runs"]
    encoded = encode(tokenizer, texts, max_length=512)
    assert [sample.own.tolist() for sample in encoded] == [
        [False, True, True],
        [False, False, False, True, True],
        [False, False, False, True],
        [False, False, False],
        [False, True, False, True],
    ]
    assert encoded[0].ids.tolist() == [1, 5, 7]
    assert [sample.own.sum() for sample in encoded] == [2, 2, 1, 0, 2]


def test_long_texts_are_cut(tokenizer):
    (sample,) = encode(tokenizer, ["cat " * 100], max_length=10)
    assert len(sample.ids) == 10


def test_many_texts_are_encoded_like_few(tokenizer):
    texts = ["cat runs", ("I ", "am happy now")] * 1500
    encoded = encode(tokenizer, texts, max_length=512)
    assert digest(encoded[:2]) == digest(encoded[-2:]) == digest(encode(tokenizer, texts[:2], 512))
    assert len(encoded) == len(texts)


def test_a_digest_tells_texts_contexts_and_order_apart(tokenizer):
    kinds = [["cat runs", "sun"], [("cat ", "runs"), "sun"], ["sun", "cat runs"], ["cat runs sun"]]
    digests = {digest(encode(tokenizer, kind, max_length=512)) for kind in kinds}
    assert len(digests) == len(kinds)


def test_a_slow_tokenizer_and_a_single_string_are_refused(tokenizer):
    with pytest.raises(EmokernelError, match="one string"):
        encode(tokenizer, "cat", max_length=512)
    with pytest.raises(EmokernelError, match="fast tokenizer"):
        encode(object(), ["cat"], max_length=512)


def test_ids_take_four_bytes(tokenizer):
    (sample,) = encode(tokenizer, ["cat runs"], max_length=512)
    assert (sample.ids.dtype, sample.own.dtype) == (np.int32, np.bool_)
