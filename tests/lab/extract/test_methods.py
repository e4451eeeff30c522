"""The methods recover directions that were planted."""

from __future__ import annotations

import numpy as np
import pytest

from emokernel import EmokernelError
from emokernel.lab.extract import methods
from emokernel.lab.extract.options import METHODS, Options
from emokernel.lab.extract.samples import Group, Rows

WIDTH, TEXTS = 16, 400


def planted(paired, noise=0.3, weights=None):
    """Rows of two layers in which joy is shifted by 2 along axis 0 and fear by -3 along axis 1.

    What the texts are about, wide along axis 5, is the same for both of a pair.
    """
    generator = np.random.default_rng(0)
    about = generator.standard_normal((2, TEXTS, WIDTH)) * np.eye(WIDTH)[5] * 4
    values = np.concatenate([about, about, about], axis=1)
    values += noise * generator.standard_normal(values.shape)
    values[:, :TEXTS, 0] += 2
    values[:, TEXTS : 2 * TEXTS, 1] -= 3
    neutral = range(2 * TEXTS, 3 * TEXTS)
    groups = [
        Group("joy", range(TEXTS), neutral, paired),
        Group("fear", range(TEXTS, 2 * TEXTS), neutral, paired),
    ]
    weights = np.ones(3 * TEXTS, int) if weights is None else weights
    return Rows(values.astype(np.float32), weights), groups


# Of unpaired texts, what they are about is the largest difference: pca finds that, tested below.
@pytest.mark.parametrize(
    ("method", "paired"),
    [("mean", True), ("mean", False), ("pca", True), ("probe", True), ("probe", False)],
)
def test_planted_directions_are_recovered(method, paired):
    rows, groups = planted(paired)
    found = methods.vectors(rows, groups, Options(method=method))
    expected = np.zeros((2, WIDTH))
    expected[0, 0], expected[1, 1] = 2, -3
    for layer in found:
        np.testing.assert_allclose(layer, expected, atol=0.5 if method == "probe" else 0.15)


def test_the_mean_is_the_weighted_difference_of_means():
    weights = np.random.default_rng(1).integers(1, 9, 3 * TEXTS)
    rows, groups = planted(True, weights=weights)
    found = methods.vectors(rows, groups, Options())
    for number, group in enumerate(groups):
        for layer in range(2):
            means = [
                np.average(rows.values[layer, list(each)], axis=0, weights=weights[list(each)])
                for each in (group.rows, group.neutral)
            ]
            np.testing.assert_allclose(found[layer, number], means[0] - means[1], atol=1e-5)


def test_pca_is_about_zero_and_not_about_the_mean():
    """All pairs share one shift: centred differences would show nothing but the noise, axis 2."""
    rows, groups = planted(True, noise=0.05)
    noisy = rows.values.copy()
    noisy[:, :TEXTS, 2] += np.random.default_rng(2).standard_normal((2, TEXTS))
    vector = methods.vectors(Rows(noisy, rows.weights), groups[:1], Options(method="pca"))[0, 0]
    differences = noisy[0, :TEXTS] - noisy[0, 2 * TEXTS :]
    _, _, axes = np.linalg.svd(differences.astype(float), full_matrices=False)
    shift = differences.mean(0)
    np.testing.assert_allclose(vector, (axes[0] @ shift) * axes[0], atol=1e-5)
    assert vector[0] == pytest.approx(2, abs=0.05)


def test_pca_of_unpaired_texts_is_about_the_neutral_mean():
    rows, groups = planted(False)
    vector = methods.vectors(rows, groups[:1], Options(method="pca"))[0, 0]
    values = rows.values[0].astype(float)
    differences = values[:TEXTS] - values[2 * TEXTS :].mean(0)
    _, _, axes = np.linalg.svd(differences, full_matrices=False)
    shift = differences.mean(0)
    np.testing.assert_allclose(vector, (axes[0] @ shift) * axes[0], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_sign_points_to_the_emotion(method):
    rows, groups = planted(True)
    flipped = Rows(-rows.values, rows.weights)
    options = Options(method=method)
    there, back = (methods.vectors(each, groups, options) for each in (rows, flipped))
    np.testing.assert_allclose(there, -back, atol=1e-4)


def test_the_probe_is_of_the_rows_and_not_of_their_standardised_form():
    rows, groups = planted(True)
    scale = np.logspace(-2, 2, WIDTH).astype(np.float32)
    options = Options(method="probe")
    found = methods.vectors(Rows(rows.values * scale, rows.weights), groups, options)[0]
    for number, group in enumerate(groups):
        scores = rows.values[0] * scale @ found[number]
        right = scores[list(group.rows)] > scores[list(group.neutral)].max()
        assert right.mean() > 0.95


def test_the_probe_reads_a_part_of_many_texts(monkeypatch):
    rows, groups = planted(True)
    everything = methods.vectors(rows, groups, Options(method="probe"))
    monkeypatch.setattr(methods, "PROBE_TEXTS", 350)
    part = methods.vectors(rows, groups, Options(method="probe"))
    again = methods.vectors(rows, groups, Options(method="probe"))
    other = methods.vectors(rows, groups, Options(method="probe", seed=1))
    np.testing.assert_array_equal(part, again)
    assert np.abs(part - everything).max() > 1e-6
    assert np.abs(part - other).max() > 1e-6
    np.testing.assert_allclose(part, everything, atol=0.35)


@pytest.mark.parametrize("method", METHODS)
def test_neutral_components_are_taken_out_of_every_method(method):
    rows, groups = planted(True)
    found = methods.vectors(rows, groups, Options(method=method, remove_neutral=0.5))
    plain = methods.vectors(rows, groups, Options(method=method))
    basis = methods.neutral_components(rows, 0, list(groups[0].neutral), 0.5)
    assert len(basis) == 1
    assert abs(basis[0, 5]) > 0.99
    np.testing.assert_allclose(found[0] @ basis[0], 0, atol=1e-12)
    np.testing.assert_allclose(found[0], plain[0] - plain[0] @ basis.T @ basis, atol=1e-12)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_few_and_many_neutral_texts_have_the_same_components(share):
    """By singular values where there are fewer texts than dimensions, else by the covariance."""
    generator = np.random.default_rng(4)
    few = generator.standard_normal((WIDTH, WIDTH)) * np.linspace(1, 4, WIDTH) + 7
    values = np.concatenate([few, few])[None].astype(np.float32)
    rows = Rows(values, np.ones(2 * WIDTH, int))
    one = methods.neutral_components(rows, 0, range(WIDTH), share)
    two = methods.neutral_components(rows, 0, range(2 * WIDTH), share)
    np.testing.assert_allclose(one.T @ one, two.T @ two, atol=1e-6)
    centred = values[0] - values[0].mean(0)
    total, held = np.square(centred).sum(), np.square(centred @ one.T).sum(0)
    assert held.sum() >= share * total * (1 - 1e-6)
    assert held[:-1].sum() < share * total


def test_components_need_two_neutral_texts():
    rows, _ = planted(True)
    with pytest.raises(EmokernelError, match="at least two neutral texts"):
        methods.neutral_components(rows, 0, [3], 0.5)


def test_a_share_of_the_base_is_taken_out():
    rows, groups = planted(True)
    plain = methods.vectors(rows, groups, Options())
    base = plain.mean(1, keepdims=True)
    half = methods.vectors(rows, groups, Options(remove_base=0.5))
    np.testing.assert_allclose(half, plain - 0.5 * base)
    none = methods.vectors(rows, groups, Options(remove_base=1.0))
    np.testing.assert_allclose(none.mean(1), 0, atol=1e-12)


def test_nothing_but_a_chunk_and_a_matrix_is_in_memory(monkeypatch):
    """The methods go through the rows by `Rows.chunks`; none asks for a layer at once."""
    monkeypatch.setattr("emokernel.lab.extract.samples._CHUNK", 10 * WIDTH)
    seen = []
    chunks = Rows.chunks

    def watched(*arguments, **options):
        for chunk in chunks(*arguments, **options):
            seen.append(len(chunk[0]))
            yield chunk

    monkeypatch.setattr(Rows, "chunks", watched)
    rows, groups = planted(True)
    for method in ("mean", "pca"):
        methods.vectors(rows, groups, Options(method=method, remove_neutral=0.5))
    assert max(seen) == 10
