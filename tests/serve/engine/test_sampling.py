"""Rows of a batch are sampled each in its own way, as the lab samples them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from emokernel.lab.measure.nucleus import Choice, Nucleus, Sampling
from emokernel.serve.engine import Wish
from emokernel.serve.engine.sampling import Drawing, drawn_rows, in_place

WIDTH = 50


def said(choice, drawing):
    numbers = torch.tensor([choice.temperature, choice.top_p, choice.top_k])
    return torch.cat([numbers, torch.from_numpy(drawing.uniforms())])[None]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**53),
    st.sampled_from([0.3, 0.8, 1.0, 2.0]),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_a_row_has_the_tokens_that_the_lab_gives_under_its_seed(seed, temperature, top_p):
    steps = 6
    nucleus = Nucleus([[seed]], Sampling(steps, temperature, top_p))
    choice = Choice(temperature, top_p)
    drawing = Drawing(choice, seed)
    generator = torch.Generator().manual_seed(seed % 2**31)
    for step in range(steps):
        scores = 3 * torch.randn(1, WIDTH, generator=generator)
        found = drawn_rows(scores.clone(), said(choice, drawing))
        assert found.tolist() == nucleus.choose(scores, step).tolist()


@pytest.mark.parametrize("how", [drawn_rows, in_place])
@pytest.mark.parametrize("choice", [Choice(1.0, 0.6), Choice(0.7, 1.0, 4), Choice(1.3, 0.8, 3)])
def test_tokens_are_as_frequent_as_they_are_probable(how, choice):
    generator = torch.Generator().manual_seed(1)
    scores, draws = 2 * torch.randn(1, 12, generator=generator), 20_000
    probabilities = (scores[0] / choice.temperature).softmax(-1)
    ordered, tokens = probabilities.sort(descending=True)
    kept = ordered.cumsum(0) - ordered < choice.top_p
    if choice.top_k:
        kept &= torch.arange(12) < choice.top_k
        # Of the likeliest top_k, the nucleus is what has top_p of *their* probability.
        among = torch.where(torch.arange(12) < choice.top_k, ordered, 0.0)
        if how is drawn_rows:
            among = among / among.sum()
            kept = (among.cumsum(0) - among < choice.top_p) & (among > 0)
    wanted = torch.zeros(12).index_put((tokens,), ordered * kept)
    drawing = Drawing(choice, 5)
    rows = torch.cat([said(choice, drawing) for _ in range(draws)])
    found = how(scores.expand(draws, -1).clone(), rows).bincount(minlength=12) / draws
    assert (found - wanted / wanted.sum()).abs().max() < 0.015


def test_rows_without_a_temperature_take_the_likeliest_token_in_a_graph_too():
    scores = torch.randn(8, WIDTH)
    rows = torch.cat([said(Choice(0.0), Drawing(Choice(), 0)) for _ in range(8)])
    assert in_place(scores, rows).tolist() == scores.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("wish", "config", "choice"),
    [
        (Wish(), {}, Choice(0.0)),
        (Wish(temperature=0.7), {}, Choice(0.7)),
        (Wish(temperature=0.7, top_p=0.5), {}, Choice(0.7, 0.5)),
        (Wish(), {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20},
         Choice(0.6, 0.9, 20)),
        (Wish(temperature=1.0), {"do_sample": True, "temperature": 0.6, "top_k": 20},
         Choice(1.0, 1.0, 20)),
        (Wish(temperature=0.0), {"do_sample": True, "temperature": 0.6}, Choice(0.0)),
    ],
)  # fmt: skip
def test_what_is_not_asked_for_is_as_the_model_has_it(wish, config, choice):
    found = wish.choice(GenerationConfig(**config))
    assert (found.temperature, found.top_p) == (choice.temperature, choice.top_p)
    assert not found.temperature or found.top_k == choice.top_k
