"""Nucleus sampling: its distribution, the random numbers of each row; what `generate` is given."""

from __future__ import annotations

from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopPLogitsWarper
from word_model import word_tokenizer

from emokernel import EmokernelError
from emokernel.lab.measure import nucleus
from emokernel.lab.measure.nucleus import Nucleus
from emokernel.lab.measure.sampling import Sampling, sample

ROWS = 20_000
CONTEXTS = [list(range(row + 3, row + 4 + row % 3)) for row in range(24)]
SEEDS = [(row,) for row in range(len(CONTEXTS))]
SAMPLED, GREEDY = Sampling(6), Sampling(6, temperature=0)


def drawn(logits: torch.Tensor, sampling: Sampling, seeds=None) -> torch.Tensor:
    """One token of each row."""
    seeds = [(row,) for row in range(len(logits))] if seeds is None else seeds
    return Nucleus(seeds, sampling).choose(logits, 0)


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


def slowly(logits: torch.Tensor, sampling: Sampling, seeds) -> torch.Tensor:
    """The definition, all rows at once and every token of the nucleus looked at."""
    draws = Nucleus.DRAWS + 1
    uniforms = torch.from_numpy(
        np.stack([np.random.default_rng(list(s)).random((1, draws), np.float32) for s in seeds])
    )[:, 0]
    probabilities = (logits.float() / sampling.temperature).softmax(-1)
    sums = probabilities.cumsum(-1)

    def at(sums, shares):
        wanted = shares[:, None] * sums[:, -1:]
        last = sums.shape[1] - 1
        return torch.searchsorted(sums, wanted, right=True).clamp(max=last).flatten()

    chosen = at(sums, uniforms[:, 0])
    for draw in range(1, draws):
        picked = probabilities.gather(1, chosen[:, None])
        likelier = (probabilities * (probabilities > picked)).sum(-1)
        outside = (likelier >= sampling.top_p).nonzero().flatten()
        if sampling.top_p >= 1 or not len(outside):
            break
        if draw < draws - 1:
            chosen[outside] = at(sums[outside], uniforms[outside, draw])
        else:
            ordered, tokens = probabilities[outside].sort(-1, descending=True)
            nucleus = ordered * (ordered.cumsum(-1) - ordered < sampling.top_p)
            places = at(nucleus.cumsum(-1), uniforms[outside, -1])
            chosen[outside] = tokens.gather(1, places[:, None]).flatten()
    return chosen


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    top_p=st.one_of(st.sampled_from([0.9, 0.5, 1.0]), st.floats(0.01, 1.0)),
    scale=st.floats(0.1, 8.0),
    width=st.integers(1, 700),
    rows=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    at_once=st.sampled_from([1, 900, 1 << 19]),
)
def test_the_tokens_are_those_of_the_definition(seed, top_p, scale, width, rows, dtype, at_once):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(rows, width, generator=generator)).to(dtype)
    seeds, sampling = [(seed, row) for row in range(rows)], Sampling(1, 0.8, top_p)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nucleus, "_AT_ONCE", at_once)
        found = drawn(logits, sampling, seeds)
    assert torch.equal(found, slowly(logits, sampling, seeds))


def test_a_row_depends_on_its_seed_and_step_and_on_nothing_else():
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(3, 1.0, 0.9)
    process = Nucleus([(1, 2), (1, 2), (2, 1)], sampling)
    steps = [process.choose(logits.expand(3, -1), step).tolist() for step in range(3)]
    assert all(first == second for first, second, _ in steps)
    assert [first for first, *_ in steps] != [third for *_, third in steps]
    assert len({tuple(step) for step in steps}) == 3
    alone = Nucleus([(2, 1)], sampling)
    third = [alone.choose(logits, step).item() for step in range(3)]
    assert third == [step[2] for step in steps]
    some = process.choose(logits.expand(2, -1), 2, torch.tensor([2, 0]))
    assert some.tolist() == [steps[2][2], steps[2][0]]


def test_half_precision_is_sampled_in_fp32():
    logits = torch.zeros(4000, 3000, dtype=torch.bfloat16)
    tokens = drawn(logits, Sampling(1, 1.0, 0.95))
    assert tokens.double().mean() == pytest.approx(1500, abs=60)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logits_that_are_no_numbers_are_an_error(temperature, top_p, value):
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    logits[1, 4] = value
    with pytest.raises(EmokernelError, match="the model gives NaN or infinite logits"):
        drawn(logits, Sampling(1, temperature, top_p))


def test_a_temperature_of_0_takes_the_likeliest_token():
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn(logits, Sampling(1, 0)), logits.argmax(-1))


def answers(model, sampling=SAMPLED, tokenizer=None):
    return sample(model, tokenizer or word_tokenizer(), CONTEXTS, sampling, seeds=SEEDS)


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY])
@pytest.mark.parametrize(
    "setting",
    [
        {"num_beams": 2},
        {"repetition_penalty": 50.0},
        {"min_new_tokens": 6},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(40))},
        {"begin_suppress_tokens": list(range(40))},
        {"bad_words_ids": [[token] for token in range(40)]},
        {"forced_bos_token_id": 3, "forced_eos_token_id": 4},
        {"return_dict_in_generate": True, "output_scores": True},
        {"max_length": 2, "stop_strings": ["w"]},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_of_the_model_change_nothing(setting, sampling, tiny):
    model = tiny()
    model.generation_config.eos_token_id = list(range(64, 96))
    expected = answers(model, sampling)
    assert 0 < sum(len(answer) < 6 for answer in expected) < len(expected)
    model.generation_config.update(**setting)
    assert answers(model, sampling) == expected


def test_settings_of_a_model_within_another_change_nothing(tiny):
    model = tiny()
    expected = answers(model)
    model.generation_config.repetition_penalty = 50.0
    own = model.generation_config
    assert answers(torch.compile(model, backend="eager")) == expected
    assert model.generation_config is own


@pytest.mark.parametrize("fails", [False, True])
def test_the_settings_of_the_model_are_back_afterwards(fails, tiny):
    model = tiny()
    own = model.generation_config
    own.update(num_beams=2, top_k=7)
    before = own.to_dict()
    if fails:
        model.lm_head.weight.data[:] = torch.nan
        with pytest.raises(EmokernelError, match="NaN"):
            answers(model)
    else:
        answers(model)
    assert model.generation_config is own
    assert own.to_dict() == before


@pytest.mark.parametrize("of_tokenizer", [None, 0, 1])
@pytest.mark.parametrize("of_model", [None, 1, [1, 2]])
def test_the_end_tokens_of_model_and_tokenizer_end_an_answer(of_model, of_tokenizer, tiny):
    """The numbers stand for tokens that the model writes."""
    model, tokenizer = tiny(), word_tokenizer()
    model.generation_config.eos_token_id = None
    whole = answers(model)
    assert all(len(answer) == 6 for answer in whole)
    tokens = [answer[3] for answer in whole[:3]]
    ends = set()
    if of_model is not None:
        ends |= set(np.take(tokens, np.atleast_1d(of_model)).tolist())
        model.generation_config.eos_token_id = np.take(tokens, of_model).tolist()
    if of_tokenizer is not None:
        ends |= {tokens[of_tokenizer]}
        tokenizer.eos_token = f"w{tokens[of_tokenizer]}"
    expected = [list(takewhile(lambda token: token not in ends, answer)) for answer in whole]
    assert answers(model, tokenizer=tokenizer) == expected
