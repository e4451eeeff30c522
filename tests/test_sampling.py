"""Nucleus sampling: its distribution, the random numbers of each row, generate's own sampler."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from emokernel.sampling import Nucleus, Sampling

ROWS = 20_000


def drawn(logits: torch.Tensor, sampling: Sampling, seeds=None) -> torch.Tensor:
    """One token of each row."""
    seeds = [(row,) for row in range(len(logits))] if seeds is None else seeds
    scores = Nucleus(seeds, sampling)(torch.zeros(len(logits), 0), logits)
    assert (scores.isfinite().sum(-1) == 1).all()
    return scores.argmax(-1)


def expected(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities by the warpers of transformers."""
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores.softmax(-1)


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_the_distribution_is_that_of_transformers(top_p, temperature):
    logits = 2 * torch.randn(1, 40, generator=torch.Generator().manual_seed(4))
    sampling = Sampling(1, temperature, top_p)
    counts = drawn(logits.expand(ROWS, -1), sampling).bincount(minlength=40)
    probabilities = expected(logits, sampling)[0].double()
    assert not counts[probabilities == 0].any()
    kept = probabilities > 0
    if kept.sum() > 1:
        wanted = (probabilities[kept] / probabilities[kept].sum() * ROWS).numpy()
        assert chisquare(counts[kept].numpy(), wanted).pvalue > 1e-3
    else:
        assert counts[kept].item() == ROWS


@pytest.mark.parametrize("draws", [1, 2])
def test_rows_that_draw_in_vain_take_from_their_nucleus_too(monkeypatch, draws):
    monkeypatch.setattr(Nucleus, "DRAWS", draws)
    logits = torch.tensor([[0.2, 0.15, 0.1] + [0.01] * 55]).log()
    tokens = drawn(logits.expand(ROWS, -1), Sampling(1, 1.0, 0.3))
    assert set(tokens.tolist()) == {0, 1}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    top_p=st.floats(0.01, 1.0),
    width=st.integers(1, 60),
    masked=st.integers(0, 30),
)
def test_only_tokens_of_the_nucleus_are_drawn(seed, top_p, width, masked):
    logits = 3 * torch.randn(32, width + masked, generator=torch.Generator().manual_seed(seed))
    logits[:, width:] = -torch.inf
    sampling = Sampling(1, 0.9, top_p)
    chosen = drawn(logits, sampling)[:, None]
    probabilities = (logits / 0.9).softmax(-1)
    likelier = (probabilities * (probabilities > probabilities.gather(1, chosen))).sum(-1)
    assert (likelier < top_p + 1e-5).all()
    assert (chosen < width).all()


def test_a_row_depends_on_its_seed_and_step_and_on_nothing_else():
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(3, 1.0, 0.9)
    process = Nucleus([(1, 2), (1, 2), (2, 1)], sampling)
    steps = [process(None, logits.expand(3, -1)).argmax(-1).tolist() for _ in range(3)]
    assert all(first == second for first, second, _ in steps)
    assert [first for first, *_ in steps] != [third for *_, third in steps]
    assert len({tuple(step) for step in steps}) == 3
    alone = Nucleus([(2, 1)], sampling)
    assert [alone(None, logits).argmax().item() for _ in range(3)] == [step[2] for step in steps]


def test_half_precision_is_sampled_in_fp32():
    logits = torch.zeros(4000, 3000, dtype=torch.bfloat16)
    tokens = drawn(logits, Sampling(1, 1.0, 0.95))
    assert tokens.double().mean() == pytest.approx(1500, abs=60)
