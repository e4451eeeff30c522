"""Streaming moments against numpy's of everything at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emokernel.lab.extract.methods import moments, principal_axes
from emokernel.lab.extract.samples import Rows


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_chunks_give_the_moments_of_the_whole(sizes, seed):
    generator = np.random.default_rng(seed)
    chunks = [
        (1e4 + generator.standard_normal((size, 5)), generator.integers(1, 9, size))
        for size in sizes
    ]
    rows, weights = (np.concatenate(each) for each in zip(*chunks, strict=True))
    found = moments(chunks, 5, scatter=True)
    assert found.weight == weights.sum()
    np.testing.assert_allclose(found.mean, np.average(rows, axis=0, weights=weights), rtol=1e-13)
    expected = np.cov(rows.T, aweights=weights, ddof=0) * weights.sum()
    np.testing.assert_allclose(found.scatter, expected, atol=1e-9)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("count", [3, 6, 7, 40])
def test_axes_are_those_of_all_rows_at_once(count, centred):
    """By singular values where there are no more rows than dimensions, else by the covariance."""
    generator = np.random.default_rng(count)
    rows = generator.standard_normal((count, 6)) * np.arange(1, 7) + 3
    weights = generator.integers(1, 5, count)
    chunks = [(rows[:2].copy(), weights[:2]), (rows[2:].copy(), weights[2:])]
    about = np.average(rows, axis=0, weights=weights) if centred else 0
    expected = (rows - about).T * weights @ (rows - about)
    energies, axes = principal_axes(iter(chunks), count, 6, centred=centred)
    np.testing.assert_allclose(axes.T * energies @ axes, expected, atol=1e-9)
    assert (np.diff(energies) <= 0).all()
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-12)
    chunks = [(rows[:2].copy(), weights[:2]), (rows[2:].copy(), weights[2:])]
    top, first = principal_axes(iter(chunks), count, 6, centred=centred, most=1)
    assert first.shape == (1, 6)
    assert top[0] == pytest.approx(energies[0])
    assert abs(first[0] @ axes[0]) == pytest.approx(1)


def test_memory_is_that_of_one_matrix_however_many_rows(tmp_path):
    """205 MB of rows are read with less than 120 MB, chunks and d x d included."""
    count, width = 200_000, 256
    values = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(1, count, width))
    values[:, ::1000] = 1.0
    rows = Rows(values, np.ones(count, np.int64))
    texts = range(count)
    tracemalloc.start()
    found = moments(rows.chunks(0, texts), width, scatter=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(found.mean, 1e-3)
    assert peak < 120e6, f"{peak / 1e6:.0f} MB"
